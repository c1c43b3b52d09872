//! Specs that must be taken, those of the examples among them, and what the API server makes right by itself.

use serde_json::{Value, json};

use super::cases::with;

/// What it shows, and the spec.
pub(crate) fn good() -> Vec<(&'static str, Value)> {
    let mut good = vec![
        ("the smallest", with(json!({}))),
        ("the example, as it stands", prd()),
        (
            "the example, by selectors alone",
            json!({
                "controlPlane": { "machineSelector": { "matchLabels": { "role": "control-plane" } }, "count": 3 },
                "dataPlane": { "machines": [], "machineSelector": { "matchLabels": { "role": "worker" } }, "count": 5 },
            }),
        ),
        ("every operator", operators()),
        (
            "an empty selector matches all",
            json!({ "controlPlane": { "machineSelector": {}, "count": 1 } }),
        ),
        ("no workers, said aloud", with(json!({ "dataPlane": {} }))),
        (
            "no workers, by count",
            with(json!({ "dataPlane": { "machineSelector": {}, "count": 0 } })),
        ),
        (
            "no workers, by count alone",
            with(json!({ "dataPlane": { "count": 0 } })),
        ),
        (
            "a list beside a selector without count",
            with(json!({ "dataPlane": { "machines": ["w"], "machineSelector": {} } })),
        ),
        ("as many as allowed", many()),
        ("all there is", full()),
        (
            "null is absent",
            with(
                json!({ "gitRepo": null, "ref": null, "dataPlane": null, "paused": null, "rollout": null, "credentialsRef": null }),
            ),
        ),
        (
            "null deeper is absent",
            with(
                json!({ "rollout": { "order": null, "maxUnavailable": null }, "kubeconfig": { "path": null } }),
            ),
        ),
        (
            "unknown fields are pruned",
            with(json!({ "gitRepository": "x", "rollout": { "speed": "high" }, "${x}": "''" })),
        ),
        (
            "a whole number spelt as a float",
            with(json!({ "controlPlaneEndpoint": { "host": "vip", "port": 6443.0 } })),
        ),
        (
            "an empty label value",
            json!({ "controlPlane": { "machineSelector": { "matchLabels": { "example.com/cp": "" } }, "count": 1 } }),
        ),
        (
            "the longest names",
            json!({ "controlPlane": { "machines": ["a".repeat(63)] }, "credentialsRef": { "name": "a".repeat(253) } }),
        ),
    ];
    for repo in [
        "https://github.com/user/cluster-flakes.git",
        "http://git.lan:3000/a/b",
        "ssh://git@host:2222/a/b.git",
        "ssh://host/~user/repo",
        "git://host/repo",
        "git@github.com:user/repo.git",
        "git@host:~user/repo",
        "nix_user@host.lan:/srv/git/repo",
        "https://git.sr.ht/~user/repo",
        "https://dev.azure.com/org/My%20Project/_git/repo",
        "https://10.0.0.1/repo",
    ] {
        good.push(("a repository", with(json!({ "gitRepo": repo }))));
    }
    for host in [
        "10.0.0.10",
        "fd00::10",
        "::1",
        "vip",
        "api.prod.example.com",
        "10-0-0-1.nip.io",
        "52-54-00-12-34-56",
        "rack1.2u-04",
    ] {
        good.push((
            "an endpoint",
            with(json!({ "controlPlaneEndpoint": { "host": host } })),
        ));
    }
    for git_ref in ["main", "v1.2.3", "a/b.c", "a.locks", "HEAD"] {
        good.push(("a ref", with(json!({ "ref": git_ref }))));
    }
    for value in [
        json!(1),
        json!(1000),
        json!("1%"),
        json!("25%"),
        json!("100%"),
    ] {
        good.push((
            "a maxUnavailable",
            with(json!({ "rollout": { "maxUnavailable": value } })),
        ));
    }
    good
}

fn prd() -> Value {
    json!({
        "gitRepo": "https://github.com/user/cluster-flakes.git",
        "configurationSubdir": "clusters/prod",
        "credentialsRef": { "name": "git-creds" },
        "controlPlane": {
            "machines": ["cp-01", "cp-02", "cp-03"],
            "machineSelector": { "matchLabels": { "role": "control-plane" } },
            "count": 3,
        },
        "dataPlane": {
            "machines": [],
            "machineSelector": { "matchLabels": { "role": "worker" } },
            "count": 5,
        },
    })
}

fn operators() -> Value {
    json!({
        "controlPlane": {
            "count": 3,
            "machineSelector": {
                "matchLabels": { "role": "control-plane", "example.com/zone": "a" },
                "matchExpressions": [
                    { "key": "rack", "operator": "In", "values": ["r1", "r2", "r2"] },
                    { "key": "example.com/disk", "operator": "NotIn", "values": ["hdd", ""] },
                    { "key": "cpu", "operator": "Exists" },
                    { "key": "broken", "operator": "DoesNotExist", "values": [] },
                ],
            },
        },
    })
}

fn many() -> Value {
    let names = |prefix: &str, count: usize| -> Vec<String> {
        (0..count).map(|n| format!("{prefix}-{n:0>56}")).collect()
    };
    json!({ "controlPlane": { "machines": names("cp", 99) }, "dataPlane": { "machines": names("work", 1000) } })
}

fn full() -> Value {
    json!({
        "gitRepo": "git@github.com:user/repo.git",
        "ref": "release/1.2",
        "refPolicy": "Pin",
        "configurationSubdir": "./clusters/prod",
        "credentialsRef": { "name": "git-creds" },
        "controlPlane": { "machines": ["cp-01"] },
        "dataPlane": { "machines": ["w-01", "w-02"] },
        "controlPlaneEndpoint": { "host": "10.0.0.10", "port": 443 },
        "fullInstall": true,
        "injectSSHKey": false,
        "kubeconfig": { "path": "/etc/kubernetes/admin.conf" },
        "paused": true,
        "rollout": {
            "order": "ControlPlaneFirst",
            "maxUnavailable": "25%",
            "progressDeadlineSeconds": 1800,
            "nodeChecks": false,
            "drainTimeoutSeconds": 0,
        },
    })
}
