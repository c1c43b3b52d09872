use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::{KillSwitch, Nico, NicoOptions};
use crate::wait::wait_for;

const SOON: Duration = Duration::from_secs(10);

/// A script to run instead of NICO, which is removed when this is dropped.
struct Script(PathBuf);

impl Script {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rig-{name}-{}", std::process::id()));
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script can be written");
        let permissions = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, permissions).expect("it can be made executable");
        Self(path)
    }

    async fn start(&self) -> Nico {
        Nico::start(NicoOptions {
            binary: self.0.clone(),
            kubeconfig: "the kubeconfig".into(),
            namespace: Some("ns".into()),
            ssh_port: 2222,
            log: "trace".into(),
            args: vec!["--resync".into(), "1s".into()],
        })
        .await
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

async fn says(nico: &Nico, text: &str) {
    let said = || async { nico.output().contains(text).then_some(()) };
    wait_for(&format!("the program says {text:?}"), SOON, said).await;
}

#[tokio::test]
async fn it_gets_its_arguments_and_kubeconfig_and_is_heard() {
    let script = Script::new("args", "echo \"args: $*\" >&2; cat \"$KUBECONFIG\"; exit 7");
    let nico = script.start().await;
    let status = nico.wait_exit(SOON).await.expect("it ends");
    assert_eq!(status.code(), Some(7));
    says(
        &nico,
        "--ssh-port 2222 --log trace --watch-namespace ns --resync 1s",
    )
    .await;
    says(&nico, "the kubeconfig").await;
}

#[tokio::test]
async fn it_is_terminated_killed_and_measured() {
    let script = Script::new(
        "term",
        "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done",
    );
    let nico = script.start().await;
    says(&nico, "up").await;
    assert!(nico.rss_bytes().is_some_and(|bytes| bytes > 0));
    assert!(nico.cpu_ticks().is_some());
    nico.terminate().await;
    let status = nico.wait_exit(SOON).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
    says(&nico, "bye").await;
    let switch = KillSwitch::default();
    let pressed = switch.clone();
    let pressing = tokio::spawn(async move { pressed.press().await });
    let nico = script.start().await;
    says(&nico, "up").await;
    switch.arm(&nico);
    pressing.await.expect("it is pressed");
    assert!(switch.pressed());
    let status = nico.wait_exit(SOON).await.expect("it ends");
    assert_eq!(status.code(), None);
}

#[tokio::test]
async fn it_ends_when_nobody_holds_it() {
    let script = Script::new("drop", "echo up; while :; do sleep 0.05; done");
    let nico = script.start().await;
    says(&nico, "up").await;
    let proc = PathBuf::from(format!("/proc/{}", nico.pid()));
    drop(nico);
    wait_for("the process is gone", SOON, || async {
        (!proc.exists()).then_some(())
    })
    .await;
}
