//! The ten steps of the README, from three machines to a cluster: its commands and its YAML in their order, on a management cluster of
//! their own. The rig stands in for NIO and the laptops, and nothing is built or pushed. With `--nocapture` it prints all that is entered,
//! and the answers.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use kube::api::{Api, DynamicObject};
use rig::crds::{self, Generation};
use rig::environment::{Environment, repository};
use rig::machines::{HostOptions, MachineHost};
use rig::nio::{Nio, NioOptions};
use rig::process::{Nico, NicoOptions};
use rig::scratch::Scratch;
use rig::wait::wait_describing;
use rig::workload::{Flake, Tenancy};
use russh::keys::PublicKey;
use serde_json::Value;

const README: &str = include_str!("../../README.md");
const MACHINES: [&str; 3] = ["cp-01", "cp-02", "cp-03"];
const DEADLINE: Duration = Duration::from_secs(120);

/// A step: what a person enters, and what a person applies.
pub(crate) struct Step {
    pub(crate) commands: Vec<&'static str>,
    pub(crate) yaml: Vec<&'static str>,
}

pub(crate) fn steps() -> Vec<Step> {
    let (_, section) = README
        .split_once("\n## From three machines to a cluster\n")
        .unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let steps = (1..=10).map(|number| {
        let (_, step) = section.split_once(&format!("\n**{number}. ")).unwrap();
        let (step, _) = step
            .split_once(&format!("\n**{}. ", number + 1))
            .unwrap_or((step, ""));
        let fences = step.split("```").skip(1).step_by(2);
        Step {
            commands: step
                .lines()
                .filter_map(|it| it.strip_prefix("    "))
                .collect(),
            yaml: fences.filter_map(|it| it.strip_prefix("yaml\n")).collect(),
        }
    });
    steps.collect()
}

/// Where the steps are taken, with the repository's files and a `kubectl` for the management cluster.
struct Desk(Scratch);

impl Desk {
    fn new(environment: &Environment) -> Self {
        let desk = Self(Scratch::new("ten-steps"));
        for files in ["deploy", "crds"] {
            symlink(repository().join(files), desk.path().join(files)).unwrap();
        }
        let kubectl = environment.control_plane.kubectl_command();
        let words = [kubectl.get_program()]
            .into_iter()
            .chain(kubectl.get_args());
        let words: Vec<String> = words.map(|it| format!("'{}'", it.display())).collect();
        desk.program("kubectl", &format!("exec {} \"$@\"", words.join(" ")));
        desk.program("docker", "exit 0");
        desk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn program(&self, name: &str, script: &str) {
        let file = self.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Enters a command.
    fn run(&self, command: &str) -> Output {
        let path = std::env::var("PATH").unwrap();
        Command::new("sh")
            .args(["-c", &format!("umask 022; {command}")])
            .current_dir(self.path())
            .env("PATH", format!("{}:{path}", self.path().display()))
            .output()
            .unwrap()
    }

    /// Enters a command, and returns what it printed.
    fn enter(&self, command: &str) -> String {
        let output = self.run(command);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("$ {command}\n{printed}");
        assert!(output.status.success(), "{command}: {output:?}");
        printed
    }

    fn enter_all(&self, step: &Step) -> Vec<String> {
        assert!(!step.commands.is_empty());
        step.commands.iter().map(|it| self.enter(it)).collect()
    }

    fn apply(&self, text: &str) {
        std::fs::write(self.path().join("applied.yaml"), text).unwrap();
        println!("$ cat applied.yaml\n{}\n", text.trim_end());
        self.enter("kubectl apply -f applied.yaml");
    }
}

fn is_ready(cluster: &DynamicObject) -> bool {
    rig::world::condition(&cluster.data["status"], "Ready")["status"] == "True"
}

async fn until(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    is: impl Fn(&DynamicObject) -> bool,
) {
    let look = || async {
        let found = api.get_opt(name).await.ok()??;
        is(&found).then_some(())
    };
    let status = || async {
        let found = api.get_opt(name).await;
        format!(
            "{:?}",
            found.map(|it| it.map(|it| it.data["status"].clone()))
        )
    };
    wait_describing(&format!("{name} is {what}"), DEADLINE, look, status).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ten_steps_lead_to_a_cluster() {
    if rig::tools::on_path("the ten steps", "ssh-keygen").is_none() {
        return;
    }
    let [
        _,
        nio,
        operator,
        key,
        _,
        machines,
        _,
        cluster,
        watch,
        use_it,
    ] = <[Step; 10]>::try_from(steps()).ok().unwrap();
    let environment = Environment::start(Generation::Classic).await;
    let client = environment.control_plane.client();
    let desk = Desk::new(&environment);

    // What was just installed is discovered a moment later.
    let explain = nio.commands.last().unwrap();
    let discovered = || async { desk.run(explain).status.success().then_some(()) };
    let told = || async { format!("{:?}", desk.run(explain)) };
    wait_describing("NIO's resources are discovered", DEADLINE, discovered, told).await;
    let looked = desk.enter_all(&nio).concat();
    for word in ["machines.nio.homystack.com", "hostname"] {
        assert!(looked.contains(word), "{looked}");
    }
    desk.enter_all(&operator);
    let deployment = desk.enter("kubectl -n nico-system get deployment nico -o json");
    let deployment: Value = serde_json::from_str(&deployment).unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example.com/nico:0.1.0");

    desk.enter_all(&key);
    let public = std::fs::read_to_string(desk.path().join("laptops.pub")).unwrap();
    let public = PublicKey::from_openssh(&public).unwrap();

    let flake = Flake::new(environment.workload.clone(), Tenancy::Alone);
    let options = NioOptions::namespace("clusters");
    let _nio = Nio::start(environment.client.clone(), options, flake.hook());
    let [yaml] = machines.yaml[..] else {
        panic!("{:?}", machines.yaml)
    };
    let mut laptops: Vec<MachineHost> = Vec::new();
    for name in MACHINES {
        let host = HostOptions {
            user: "root".to_owned(),
            authorized: vec![public.clone()],
            api_target: None,
        };
        let host = environment.pool.host(host).await;
        flake.add(name, host.clone());
        let yaml = yaml.replace("10.0.0.11", &host.ip().to_string());
        desk.apply(&yaml.replace("cp-01", name));
        laptops.push(host);
    }
    let api = crds::machines(&client, "clusters");
    for name in MACHINES {
        until(&api, name, "discoverable", |it| {
            it.data["status"]["discoverable"] == true
        })
        .await;
    }

    let proxy = environment.control_plane.url();
    let nico = Nico::start(NicoOptions {
        binary: env!("CARGO_BIN_EXE_nico").into(),
        kubeconfig: environment.service_account_kubeconfig(proxy).await,
        namespace: None,
        ssh_port: environment.pool.ssh_port(),
        log: "nico=debug,warn".to_owned(),
        args: Vec::new(),
    })
    .await;
    nico.wait_ready().await;
    let [yaml] = cluster.yaml[..] else {
        panic!("{:?}", cluster.yaml)
    };
    desk.apply(yaml);
    let api = crds::clusters(&client, "clusters");
    until(&api, "prod", "Ready", is_ready).await;

    // A watch does not end.
    let [get, describe] = watch.commands[..] else {
        panic!("{:?}", watch.commands)
    };
    let listed = desk.enter(get.strip_suffix(" -w").unwrap());
    assert!(listed.contains("3/3"), "{listed}");
    let described = desk.enter(describe);
    assert!(
        described.contains("the cluster is Ready: control plane 3/3"),
        "{described}"
    );

    let nodes = desk.enter_all(&use_it).pop().unwrap();
    for name in MACHINES {
        assert!(nodes.contains(&format!("{name}   Ready")), "{nodes}");
    }
    let kubeconfig = std::fs::metadata(desk.path().join("prod.kubeconfig")).unwrap();
    let mode = kubeconfig.permissions().mode();
    assert_eq!(mode & 0o077, 0, "others can read an administrator's key");
}
