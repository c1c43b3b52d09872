//! With `--log-format json`, a log store gets nothing but lines of JSON: also from a run that cannot begin or go on.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A `nico` that asks for JSON and ends by itself.
fn nico(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nico"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Its exit code and its last line, after a check that all lines are JSON and that nothing went to standard output.
fn ended(command: &mut Command) -> (Option<i32>, Value) {
    let output = command.output().unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    let lines = String::from_utf8(output.stderr).unwrap();
    let parsed = lines.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {lines}"))
    });
    let mut parsed: Vec<Value> = parsed.collect();
    let last = parsed.pop().expect("it says why it ends");
    assert_eq!(last["level"], "ERROR", "{last}");
    assert!(last["timestamp"].is_string(), "{last}");
    (output.status.code(), last)
}

#[test]
fn the_last_error_of_a_run_is_a_line_of_json() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("--http-addr={}", taken.local_addr().unwrap());
    let json = ["run", "--log-format=json"];
    let kubeconfig = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("json-log.kubeconfig");
    let text = "{current-context: it, contexts: [{name: it, context: {cluster: it, user: it}}], \
                clusters: [{name: it, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: it, user: {}}]}";
    std::fs::write(&kubeconfig, text).unwrap();
    for (code, more, says) in [
        (1, &[][..], "KUBECONFIG"),
        (1, &[taken.as_str()][..], "--http-addr"),
        // Also where the filter lets no error pass.
        (1, &["--log=off"], "KUBECONFIG"),
        (2, &["--resync=never"], "--resync"),
        (2, &["--default-git-repo=ftp://x"], "--default-git-repo"),
        (2, &["--fly"], "--fly"),
    ] {
        let arguments = [&json[..], more].concat();
        let mut command = nico(&arguments);
        if more == [taken.as_str()] {
            command.env("KUBECONFIG", &kubeconfig);
        }
        let (ended, last) = ended(&mut command);
        assert_eq!(ended, Some(code), "{last}");
        let message = last["fields"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
        assert!(!message.starts_with("error"), "{message}");
    }
    let (code, _) = ended(nico(&["run", "--fly"]).env("NICO_LOG_FORMAT", "json"));
    assert_eq!(code, Some(2));
}
