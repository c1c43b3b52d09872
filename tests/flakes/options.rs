//! What files beside a flake change: the virtual IP, host keys, modules of one's own; and the shared library by itself.
use std::fs;
use std::path::Path;
use std::process::Command;

use nico::api::spec::Endpoint;
use nico::plan::cluster_nix::ClusterNix;
use serde_json::{Value, json};

use super::changes::{founded, node};
use super::evaluated::{self, Flake, copy, evaluate_with, root, scratch};

#[test]
fn control_plane_machines_serve_the_endpoint_where_an_interface_is_named() {
    let test = "control_plane_machines_serve_the_endpoint_where_an_interface_is_named";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    let add = |here: &Path| {
        fs::write(
            here.join("members.nix"),
            "{ nico.vip.interface = \"eno1\"; }",
        )
        .unwrap();
    };
    let at = |host: &str, port: u16| ClusterNix {
        endpoint: Some(Endpoint {
            host: host.to_owned(),
            port,
        }),
        ..founded()
    };
    // Of each endpoint, whether machines can serve it.
    let cases = [
        (at("10.0.0.10", 6443), true),
        (at("fd00::10", 6443), true),
        (at("api.example.com", 6443), false),
        (at("10.0.0.10", 443), false),
    ];
    let mut texts: Vec<String> = cases.iter().map(|(cluster, _)| cluster.render()).collect();
    texts.push(
        ClusterNix {
            endpoint: None,
            ..founded()
        }
        .render(),
    );
    let found = evaluate_with(&nix, Flake::K3s, "vip", &texts, add);
    for ((cluster, can), found) in cases.iter().zip(&found) {
        let machine = &found["cp-02"];
        let instance = &machine["vip"]["vrrpInstances"]["api"];
        let host = &cluster.endpoint.as_ref().unwrap().host;
        assert_eq!(instance["interface"], "eno1");
        assert_eq!(instance["virtualIps"][0]["addr"], **host);
        let id = instance["virtualRouterId"].as_u64().unwrap();
        assert!((1..=255).contains(&id));
        assert_eq!(
            found["cp-01"]["vip"], machine["vip"],
            "all speak of the same"
        );
        assert_eq!(
            machine["failed"].as_array().unwrap().is_empty(),
            *can,
            "{host}"
        );
        assert_eq!(found["worker-01"]["vip"]["enable"], false);
        assert_eq!(found["worker-01"]["failed"], json!([]));
    }
    assert_eq!(found.last().unwrap()["cp-01"]["vip"]["enable"], false);
}

#[test]
fn tokens_are_encrypted_for_a_machine_whose_host_key_is_known() {
    let Some(nix) =
        evaluated::nix_or_skip("tokens_are_encrypted_for_a_machine_whose_host_key_is_known")
    else {
        return;
    };
    for flake in Flake::ALL {
        let add = |here: &Path| {
            fs::create_dir_all(here.join("machines")).unwrap();
            fs::write(here.join("machines/cp-01.pub"), "ssh-ed25519 AAAA").unwrap();
            fs::write(
                here.join("machines/cp-02.nix"),
                "{ networking.domain = \"example.com\"; }",
            )
            .unwrap();
        };
        let found = evaluate_with(&nix, flake, "keys", &[founded().render()], add);
        for (machine, known) in [("cp-01", true), ("cp-02", false), ("worker-01", false)] {
            let activation = found[0][machine]["activation"].to_string();
            let plain = activation.contains("-join-token /run/nico/join-token");
            assert_eq!(plain, !known, "{machine}: {activation}");
            assert_eq!(activation.contains("-join-token.age"), known);
            assert!(
                !activation.contains("-machine-ssh-key"),
                "the private half stays out"
            );
        }
        // What the system was built from goes with the garbage.
        let nix = &found[0]["cp-01"]["nix"];
        assert_eq!(nix["keep-derivations"], false, "{nix}");
        // Nothing that runs has a token in it.
        let units = json!([found[0]["cp-01"]["units"], found[0]["cp-01"]["state"]]).to_string();
        assert!(!units.contains("1111111111") && !units.contains("2222222222"));
    }
}

/// k3s and RKE2 end at a setting that their agents do not know.
#[test]
fn settings_of_servers_are_none_of_agents() {
    let test = "settings_of_servers_are_none_of_agents";
    let Some(nix) = evaluated::nix_or_skip(test) else {
        return;
    };
    let add = |here: &Path| {
        let text =
            "{ nico.settings.node-label = [ \"a=b\" ]; nico.serverSettings.disable = [ \"c\" ]; }";
        fs::write(here.join("members.nix"), text).unwrap();
    };
    for flake in [Flake::K3s, Flake::Rke2] {
        let texts = [founded().render()];
        let found = evaluate_with(&nix, flake, "server-settings", &texts, add);
        for (name, server) in [("cp-03", true), ("worker-01", false)] {
            for file in ["join.yaml", "member.yaml"] {
                let text = found[0][name]["state"][file].as_str().unwrap();
                let settings: Value = serde_json::from_str(text).unwrap();
                assert_eq!(settings["node-label"], json!(["a=b"]), "{flake:?}: {name}");
                let disabled = server.then(|| json!(["c"]));
                assert_eq!(
                    settings.get("disable"),
                    disabled.as_ref(),
                    "{flake:?}: {name}"
                );
            }
        }
    }
}

/// The stand-in for nixpkgs refuses what NixOS would refuse: else the other tests would show nothing.
#[test]
fn an_option_that_nixos_does_not_have_is_an_error() {
    let Some(nix) = evaluated::nix_or_skip("an_option_that_nixos_does_not_have_is_an_error") else {
        return;
    };
    for flake in Flake::ALL {
        let directory = scratch(&format!("unknown-{}", flake.directory()));
        let examples = root().join("examples/flakes");
        copy(&examples.join("lib"), &directory.join("lib"));
        let here = directory.join("flake");
        copy(&examples.join(flake.directory()), &here);
        fs::write(here.join("cluster.nix"), founded().render()).unwrap();
        for file in ["join-token", "worker-token", "machine-ssh-key"] {
            fs::write(here.join(file), "1").unwrap();
        }
        let report = root().join("tests/flakes/report.nix");
        let expression = format!("import {} [ ./flake ]", report.display());
        // Of each level: what stands in members.nix, and what Nix complains about.
        let cases = [
            ("networking.domain = \"a.example\";", None),
            (
                "servces.openssh.enable = true;",
                Some("option `servces' does not exist"),
            ),
            (
                "services.opensshd.enable = true;",
                Some("option `services.opensshd' does not exist"),
            ),
            (
                "systemd.services.a.serviceconfig.Type = \"simple\";",
                Some("option `systemd.services.a.serviceconfig' does not exist"),
            ),
            (
                "systemd.timers.nico-mine.timerconfig = { };",
                Some("option `systemd.timers.nico-mine.timerconfig' does not exist"),
            ),
            (
                "nico.apiport = 6444;",
                Some("option `nico.apiport' does not exist"),
            ),
            (
                "networking.firewall.allowedTCPPorts = [ \"22\" ];",
                Some("is not of type `port'"),
            ),
            (
                "networking.hostName = \"another\";",
                Some("conflicting definition values"),
            ),
        ];
        for (text, complaint) in cases {
            fs::write(here.join("members.nix"), format!("{{ {text} }}")).unwrap();
            match (
                evaluated::try_expression(&nix, &directory, &expression),
                complaint,
            ) {
                (Ok(_), None) => {}
                (Err(errors), Some(complaint)) => {
                    assert!(errors.contains(complaint), "{flake:?}: {text}: {errors}");
                }
                (Ok(_), Some(complaint)) => panic!("{flake:?}: {text}: not {complaint}"),
                (Err(errors), None) => panic!("{flake:?}: {text}: {errors}"),
            }
        }
        let _ = fs::remove_dir_all(&directory);
    }
}

/// A key from elsewhere may lack its last newline or have carriage returns: ssh-keygen reads neither.
#[test]
fn the_public_half_of_any_usable_key_goes_to_the_machine() {
    let test = "the_public_half_of_any_usable_key_goes_to_the_machine";
    let (Some(nix), Some(keygen)) = (
        evaluated::nix_or_skip(test),
        rig::tools::on_path(test, "ssh-keygen"),
    ) else {
        return;
    };
    let directory = scratch("public-half");
    let expression = format!(
        "let lib = import {root}/tests/flakes/nixpkgs/lib.nix;
         module = import {root}/examples/flakes/lib/machine.nix {{ inherit lib; config.nico.sshUser = \"root\"; nico.file = _: ./machine-ssh-key;
           pkgs = {{ openssh = 1; runCommand = _: _: script: \"BUILD${{script}}END\"; }}; }};
         in module.config.system.activationScripts.nico-ssh.content",
        root = root().display()
    );
    let key = directory.join("machine-ssh-key");
    let made = Command::new(keygen)
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&key)
        .output();
    assert!(made.unwrap().status.success());
    let public = fs::read_to_string(directory.join("machine-ssh-key.pub")).unwrap();
    let whole = fs::read_to_string(&key).unwrap();
    for text in [
        whole.clone(),
        whole.trim_end().to_owned(),
        whole.replace('\n', "\r\n"),
    ] {
        fs::write(&key, &text).unwrap();
        let activation = evaluated::expression(&nix, &directory, &expression);
        let script = activation.as_str().unwrap().split_once("BUILD").unwrap().1;
        let script = script.rsplit_once("END").unwrap().0;
        // The store is none: the path in it leads nowhere.
        let store = script.find("/nix/store/").unwrap();
        let end = script[store..].find("-machine-ssh-key").unwrap() + store;
        let script = format!("{}./{}", &script[..store], &script[end + 1..]);
        let _ = fs::remove_file(directory.join("key"));
        let built = Command::new("bash")
            .args(["-e", "-c", &script])
            .current_dir(&directory)
            .env("out", directory.join("out"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{script}: {errors}");
        let out = fs::read_to_string(directory.join("out")).unwrap();
        assert_eq!(out.trim(), public.trim());
    }
    let _ = fs::remove_dir_all(&directory);
}

/// `lib/facts.nix` by itself.
#[test]
fn the_library_reads_what_one_machine_needs() {
    let Some(nix) = evaluated::nix_or_skip("the_library_reads_what_one_machine_needs") else {
        return;
    };
    let cluster = ClusterNix {
        bootstrap: None,
        join: Some(node("cp-02", 12)),
        endpoint: Some(Endpoint {
            host: "fd00::10".to_owned(),
            port: 8443,
        }),
        ..founded()
    };
    let directory = scratch("facts");
    fs::write(directory.join("cluster.nix"), cluster.render()).unwrap();
    let expression = format!(
        "let lib = import {root}/tests/flakes/nixpkgs/lib.nix; facts = name: import {root}/examples/flakes/lib/facts.nix {{ inherit lib name; cluster = import ./cluster.nix; }};
         of = name: with facts name; {{ inherit isControlPlane founds join sans ip; peers = map (peer: peer.name) peers; }};
         inherit (facts \"cp-01\") authority url isIP endpoint;
         in {{ machines = lib.genAttrs [ \"cp-01\" \"cp-02\" \"worker-01\" ] of; inherit endpoint;
           listed = map (name: (facts name).isListed) [ \"cp-03\" \"worker-02\" \"stranger\" ];
           urls = [ (url \"10.0.0.1\" 1) (url \"fd00::1\" 2) (url \"[fd00::1]\" 3) (url \"a.example\" 4) (authority \"::\" 5) ];
           ips = map isIP [ \"10.0.0.1\" \"fd00::1\" \"::\" \"a.example\" \"10.0.0\" \"a:b c\" \"\" ]; }}",
        root = root().display()
    );
    let found: Value = evaluated::expression(&nix, &directory, &expression);
    let _ = fs::remove_dir_all(&directory);
    let two = json!({"name": "cp-02", "ip": "10.0.0.12"});
    let of = |control_plane: bool, join: &Value, last: u8, name: &str, peers: &[&str]| {
        let ip = format!("10.0.0.{last}");
        json!({"isControlPlane": control_plane, "founds": false, "join": join, "ip": ip, "sans": [ip, name, "fd00::10"], "peers": peers})
    };
    assert_eq!(
        found,
        json!({
            "machines": {
                "cp-01": of(true, &two, 11, "cp-01", &["cp-02", "cp-03"]),
                "cp-02": of(true, &Value::Null, 12, "cp-02", &["cp-01", "cp-03"]),
                "worker-01": of(false, &two, 21, "worker-01", &["cp-01", "cp-02", "cp-03"]),
            },
            "endpoint": {"host": "fd00::10", "port": 8443},
            "listed": [true, true, false],
            "urls": ["https://10.0.0.1:1", "https://[fd00::1]:2", "https://[fd00::1]:3", "https://a.example:4", "[::]:5"],
            "ips": [true, true, true, false, false, false, false],
        })
    );
}
