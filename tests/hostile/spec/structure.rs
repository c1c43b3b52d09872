//! Specs that are wrong in what they ask for or in their form: roles, selectors, numbers, types.

use serde_json::{Map, Value, json};

use crate::spec::cases::{Case, at, case, each, with};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = match_labels();
    cases.extend(match_expressions());
    cases.extend(roles());
    cases.extend(numbers());
    cases.extend(shapes());
    cases
}

/// Three control plane machines by this selector.
fn selecting(selector: &Value) -> Value {
    with(json!({ "controlPlane": { "machineSelector": selector, "count": 3 } }))
}

fn match_labels() -> Vec<Case> {
    let many: Map<String, Value> = (0..17).map(|n| (format!("k{n}"), json!("v"))).collect();
    let keys = [
        json!({ "": "x" }),
        json!({ "a b": "x" }),
        json!({ "a/b/c": "x" }),
        json!({ "A.example/role": "x" }),
        json!({ "a".repeat(64): "x" }),
        json!({ format!("{}/a", "a".repeat(254)): "x" }),
        json!({ "a${b}": "x" }),
        json!({ "a\nb": "x" }),
        Value::Object(many),
        json!(["role=x"]),
    ];
    let values = [
        json!("-x"),
        json!("a b"),
        json!("a".repeat(64)),
        json!("$(id)"),
        json!(true),
        json!(7),
    ];
    let labels = "spec.controlPlane.machineSelector.matchLabels";
    let mut cases: Vec<Case> = keys
        .map(|bad| case(labels, selecting(&json!({ "matchLabels": bad }))))
        .into();
    cases.extend(values.map(|bad| {
        let spec = selecting(&json!({ "matchLabels": { "role": bad } }));
        case(&format!("{labels}.role"), spec)
    }));
    cases.push(case(
        "spec.controlPlane.machineSelector",
        selecting(&json!("role=control-plane")),
    ));
    cases
}

fn match_expressions() -> Vec<Case> {
    let long = format!("{}/a", "a".repeat(300));
    let requirements = [
        (
            ".operator",
            json!({ "key": "a", "operator": "in", "values": ["x"] }),
        ),
        (
            ".operator",
            json!({ "key": "a", "operator": "Gt", "values": ["1"] }),
        ),
        (".operator", json!({ "key": "a" })),
        (".key", json!({ "operator": "Exists" })),
        (".key", json!({ "key": "", "operator": "Exists" })),
        (".key", json!({ "key": "a\nb", "operator": "Exists" })),
        (".key", json!({ "key": long, "operator": "Exists" })),
        ("", json!({ "key": "a", "operator": "In" })),
        ("", json!({ "key": "a", "operator": "NotIn", "values": [] })),
        (
            "",
            json!({ "key": "a", "operator": "Exists", "values": ["x"] }),
        ),
        ("", json!("a in (b)")),
        (
            ".values[0]",
            json!({ "key": "a", "operator": "In", "values": ["x y"] }),
        ),
        (
            ".values[1]",
            json!({ "key": "a", "operator": "In", "values": ["x", null] }),
        ),
        (
            ".values",
            json!({ "key": "a", "operator": "In", "values": vec!["x"; 65] }),
        ),
    ];
    let expressions = "spec.controlPlane.machineSelector.matchExpressions";
    let many = vec![json!({ "key": "a", "operator": "Exists" }); 17];
    let mut cases: Vec<Case> = requirements
        .map(|(field, bad)| {
            let spec = selecting(&json!({ "matchExpressions": [bad] }));
            case(&format!("{expressions}[0]{field}"), spec)
        })
        .into();
    for bad in [json!(many), json!({})] {
        cases.push(case(
            expressions,
            selecting(&json!({ "matchExpressions": bad })),
        ));
    }
    cases
}

fn roles() -> Vec<Case> {
    let names = |count: usize| -> Vec<String> { (0..count).map(|n| format!("m-{n}")).collect() };
    let control_plane = [
        ("", json!(null)),
        ("", json!({})),
        ("", json!({ "machines": [] })),
        ("", json!({ "machines": null })),
        ("", json!({ "count": 3 })),
        ("", json!({ "machineSelector": {} })),
        ("", json!(["cp-01"])),
        (".count", json!({ "machineSelector": {}, "count": 0 })),
        (".machines", json!({ "machines": names(100) })),
        (".machines", json!({ "machines": names(10_000) })),
        (".machines", json!({ "machines": "cp-01" })),
        (".machines[1]", json!({ "machines": ["a", "a"] })),
        (".machines[0]", json!({ "machines": [null] })),
        (".machines[0]", json!({ "machines": [["a"]] })),
        (".machines[0]", json!({ "machines": [7] })),
    ];
    let data_plane = [
        ("", json!({ "count": 5 })),
        ("", json!({ "machineSelector": {} })),
        ("", json!({ "machines": [], "machineSelector": {} })),
        ("", json!(["w-01"])),
        (".machines", json!({ "machines": names(10_000) })),
        // The control plane has it.
        (".machines", json!({ "machines": ["w-01", "cp-01"] })),
        (".machines[2]", json!({ "machines": ["a", "b", "a"] })),
    ];
    let mut cases = vec![case("spec.controlPlane", json!({}))];
    cases.extend(control_plane.map(|(field, bad)| {
        let spec = with(json!({ "controlPlane": bad }));
        case(&format!("spec.controlPlane{field}"), spec)
    }));
    cases.extend(data_plane.map(|(field, bad)| {
        let spec = with(json!({ "dataPlane": bad }));
        case(&format!("spec.dataPlane{field}"), spec)
    }));
    cases
}

fn numbers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (role, count) in [
        ("controlPlane", json!(-1)),
        ("controlPlane", json!(100)),
        ("controlPlane", json!(i64::MAX)),
        ("controlPlane", json!(u64::MAX)),
        ("controlPlane", json!(1e300)),
        ("controlPlane", json!(1.5)),
        ("controlPlane", json!("3")),
        ("controlPlane", json!(true)),
        ("dataPlane", json!(-1)),
        ("dataPlane", json!(1001)),
        ("dataPlane", json!(i64::MIN)),
        ("dataPlane", json!("5")),
    ] {
        let spec = with(json!({ role: { "machineSelector": {}, "count": count } }));
        cases.push(case(&format!("spec.{role}.count"), spec));
    }
    // A count that a list makes void is held to the same limits.
    let void = json!({ "controlPlane": { "machines": ["a"], "count": -1 } });
    cases.push(case("spec.controlPlane.count", void));
    for port in [json!(0), json!(-1), json!(65536), json!("6443")] {
        cases.push(case(
            "spec.controlPlaneEndpoint.port",
            with(json!({ "controlPlaneEndpoint": { "host": "vip", "port": port } })),
        ));
    }
    for number in [
        json!(0),
        json!(-1),
        json!(1001),
        json!(1.5),
        json!(2.0),
        json!(true),
        json!({}),
    ] {
        cases.push(at("spec.rollout.maxUnavailable", number));
    }
    for text in [
        "0%",
        "101%",
        "-5%",
        "5",
        "%",
        "",
        "05%",
        "5.5%",
        "5%\n",
        "999999999999999999999%",
    ] {
        cases.push(at("spec.rollout.maxUnavailable", json!(text)));
    }
    for number in [json!(0), json!(-1), json!(604_801), json!("1h")] {
        cases.push(at("spec.rollout.progressDeadlineSeconds", number));
    }
    for number in [json!(-1), json!(86_401), json!(0.5), json!("5m")] {
        cases.push(at("spec.rollout.drainTimeoutSeconds", number));
    }
    cases
}

fn shapes() -> Vec<Case> {
    let mut cases: Vec<Case> = [json!([]), json!("text"), json!(null)]
        .map(|spec| case("spec", spec))
        .into();
    cases.push(case(
        "spec.credentialsRef.name",
        with(json!({ "credentialsRef": {} })),
    ));
    cases.push(case(
        "spec.controlPlaneEndpoint.host",
        with(json!({ "controlPlaneEndpoint": { "port": 6443 } })),
    ));
    for (field, values) in [
        ("spec.refPolicy", vec![json!("pin"), json!(""), json!(true)]),
        (
            "spec.rollout.order",
            vec![
                json!("WorkerFirst"),
                json!("workersFirst"),
                json!(["WorkersFirst"]),
            ],
        ),
        ("spec.rollout", vec![json!("WorkersFirst")]),
        ("spec.rollout.nodeChecks", vec![json!("false")]),
        ("spec.paused", vec![json!("true"), json!(1)]),
        ("spec.fullInstall", vec![json!("no")]),
        ("spec.injectSSHKey", vec![json!([])]),
        (
            "spec.gitRepo",
            vec![
                json!(["https://host/repo"]),
                json!({ "url": "https://host/repo" }),
            ],
        ),
        ("spec.ref", vec![json!(7)]),
        ("spec.credentialsRef", vec![json!("git-creds")]),
        ("spec.kubeconfig", vec![json!("/etc/kubernetes/admin.conf")]),
    ] {
        cases.extend(each(field, values));
    }
    cases
}
