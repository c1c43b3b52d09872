//! What Argo CD makes of a cluster, by the health script of `deploy/gitops/argocd`, which a Lua interpreter runs.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the rig stops with a sentence where it cannot go on"
)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

const CONFIG: &str = include_str!("../../../deploy/gitops/argocd/argocd-cm.yaml");
const KEY: &str = "resource.customizations.health.nico.homystack.com_KubernetesCluster";
/// Names of interpreters. Argo CD's own has the language of 5.1.
const INTERPRETERS: [&str; 5] = ["lua5.1", "luajit", "lua5.3", "lua5.4", "lua"];

/// A value as Lua writes it.
fn table(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(table).collect();
            format!("{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| format!("[{key:?}] = {}", table(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    }
}

/// Status and message of each object; `None` where no interpreter is installed, which the test then says.
#[must_use]
pub fn health(test: &str, objects: &[Value]) -> Option<Vec<(String, String)>> {
    let config: Value = serde_yaml::from_str(CONFIG).expect("the manifest is YAML");
    let script = config["data"][KEY].as_str().expect("it has the script");
    let mut program = format!("local function check(obj)\n{script}\nend\nlocal health\n");
    for object in objects {
        let _ = writeln!(program, "health = check({})", table(object));
        program.push_str("io.write(health.status, '\\1', health.message, '\\2')\n");
    }
    let started = INTERPRETERS.iter().find_map(|lua| {
        let mut command = Command::new(lua);
        let piped = command.arg("-").stdin(Stdio::piped());
        let piped = piped.stdout(Stdio::piped()).stderr(Stdio::piped());
        piped.spawn().ok()
    });
    let Some(mut lua) = started else {
        crate::tools::skipped(test, "no Lua interpreter is installed");
        return None;
    };
    // It reads all of it before it writes.
    let mut stdin = lua.stdin.take().expect("it is piped");
    stdin.write_all(program.as_bytes()).expect("it reads");
    drop(stdin);
    let output = lua.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let told = String::from_utf8(output.stdout).expect("it writes text");
    let told = told.split_terminator('\u{2}');
    let told = told.map(|it| it.split_once('\u{1}').expect("two parts"));
    let told: Vec<_> = told
        .map(|(status, message)| (status.to_owned(), message.to_owned()))
        .collect();
    assert_eq!(told.len(), objects.len());
    Some(told)
}
