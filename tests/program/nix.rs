//! cluster.nix is data to Nix whatever the names and addresses in it are.
//!
//! The judge is Nix itself, where `nix-instantiate` is on PATH.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nico::api::names::ClusterId;
use nico::api::spec::Endpoint;
use nico::api::status::Role;
use nico::plan::cluster_nix::{ClusterNix, Lists, NixNode, Values, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

/// How many rendered texts, and how many edited ones, Nix itself evaluates.
const EVALUATED: usize = 300;

/// A piece of text that means something to Nix, to a shell or to a terminal, or is just long.
fn fragment() -> impl Strategy<Value = String> {
    let telling = prop::sample::select(vec![
        "\"",
        "\\",
        "$",
        "${",
        "$${",
        "\\${",
        "}",
        "{",
        "''",
        "''\\",
        "\\u0000",
        "\\u0024{",
        "\\ud800",
        "''${",
        "'''",
        "\n",
        "\r",
        "\r\n",
        "\t",
        "\0",
        "#",
        "/*",
        "*/",
        "; }",
        "\"; x = \"",
        "= ",
        "[",
        "]",
        "(",
        ")",
        "rec ",
        "null",
        "import ./x",
        "${builtins.abort \"x\"}",
        "$(id)",
        "../..",
        "\u{202e}",
        "\u{2028}",
        "\u{feff}",
        "\u{85}",
        "\u{7f}",
        "\u{1b}[2J",
        "\u{ffff}",
        "\u{10ffff}",
        " ",
        "cp-01",
        "10.0.0.11",
        "fd00::1",
    ]);
    prop_oneof![
        8 => telling.prop_map(str::to_owned),
        3 => any::<char>().prop_map(String::from),
        1 => (253_usize..400).prop_map(|length| "a".repeat(length)),
    ]
}

fn nonsense() -> impl Strategy<Value = String> {
    vec(fragment(), 0..6).prop_map(|fragments| fragments.concat())
}

fn node() -> impl Strategy<Value = NixNode> {
    (nonsense(), nonsense()).prop_map(|(name, ip)| NixNode { name, ip })
}

fn cluster() -> impl Strategy<Value = ClusterNix> {
    let endpoint = (nonsense(), any::<u16>()).prop_map(|(host, port)| Endpoint { host, port });
    (
        (nonsense(), nonsense(), any::<u64>()),
        (
            prop::option::of(nonsense()),
            prop::option::of(node()),
            prop::option::of(endpoint),
        ),
        (vec(node(), 0..4), vec(node(), 0..4)),
    )
        .prop_map(
            |((namespace, name, id), (bootstrap, join, endpoint), (control_plane, workers))| {
                ClusterNix {
                    namespace,
                    name,
                    id: ClusterId::from_bits(id),
                    bootstrap,
                    join,
                    endpoint,
                    lists: Arc::new(Lists::new(&control_plane, &workers)),
                }
            },
        )
}

/// A rendered text with one or two places overwritten, as by hand.
fn edited() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0_usize..3, fragment());
    (cluster(), vec(edit, 1..3)).prop_map(|(cluster, edits)| {
        let mut chars: Vec<char> = cluster.render().chars().collect();
        for (place, length, text) in edits {
            let start = place.index(chars.len());
            let end = chars.len().min(start + length);
            chars.splice(start..end, text.chars());
        }
        chars.into_iter().collect()
    })
}

/// What Nix should make of a text that holds `values`.
fn expected(values: &Values) -> Value {
    let node = |NixNode { name, ip }: &NixNode| json!({"name": name, "ip": ip});
    json!({
        "name": values.name,
        "id": values.id.as_str(),
        "bootstrap": values.bootstrap,
        "join": values.join.as_ref().map(node),
        "endpoint": values.endpoint.as_ref().map(|Endpoint { host, port }| json!({"host": host, "port": port})),
        "controlPlane": values.control_plane.iter().map(node).collect::<Vec<_>>(),
        "workers": values.workers.iter().map(node).collect::<Vec<_>>(),
    })
}

/// What should arrive: what went in, nodes in name order, U+FFFD for the NUL that Nix has no string for.
fn meant(cluster: &ClusterNix) -> Value {
    let text = |text: &str| text.replace('\0', "\u{fffd}");
    let node = |node: &NixNode| json!({"name": text(&node.name), "ip": text(&node.ip)});
    let nodes = |nodes: &[NixNode]| {
        let mut pairs: Vec<_> = nodes
            .iter()
            .map(|node| (text(&node.name), text(&node.ip)))
            .collect();
        pairs.sort();
        pairs
            .into_iter()
            .map(|(name, ip)| json!({"name": name, "ip": ip}))
            .collect::<Vec<_>>()
    };
    json!({
        "name": text(&cluster.name),
        "id": cluster.id.as_str(),
        "bootstrap": cluster.bootstrap.as_deref().map(text),
        "join": cluster.join.as_ref().map(node),
        "endpoint": cluster.endpoint.as_ref().map(|Endpoint { host, port }| json!({"host": text(host), "port": port})),
        "controlPlane": nodes(cluster.lists.for_role(Role::ControlPlane)),
        "workers": nodes(cluster.lists.for_role(Role::Worker)),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_comment_of_plain_ascii_and_json_that_is_only_text_to_nix(cluster in cluster()) {
        let text = cluster.render();
        let (header, rest) = text.split_once('\n').unwrap_or_default();
        prop_assert!(header.starts_with("# Generated by NICO for KubernetesCluster "));
        prop_assert!(header.ends_with(". Do not edit."));
        prop_assert!(header.chars().all(|c| (' '..='~').contains(&c)));
        let json = rest.strip_prefix("builtins.fromJSON ''\n").and_then(|rest| rest.strip_suffix("\n''\n"));
        let json = json.unwrap_or_default();
        prop_assert!(!json.contains(['\'', '$']), "{}", text);
        let value: Option<Value> = serde_json::from_str(json).ok();
        prop_assert_eq!(value, Some(meant(&cluster)), "{}", text);
    }

    #[test]
    fn what_is_written_is_read_back(cluster in cluster()) {
        prop_assert_eq!(parse(&cluster.render()), Some(cluster.values()));
    }

    #[test]
    fn any_text_has_an_answer(text in vec(fragment(), 0..40).prop_map(|fragments| fragments.concat())) {
        let _ = parse(&text);
    }
}

#[test]
fn nix_itself_reads_the_same() {
    let Some(nix) = nix_or_skip("nix_itself_reads_the_same") else {
        return;
    };
    let mut runner = TestRunner::default();
    let mut cases: Vec<(String, Value)> = Vec::new();
    while cases.len() < EVALUATED {
        let cluster = draw(&cluster(), &mut runner);
        cases.push((cluster.render(), meant(&cluster)));
    }
    // Few edits leave a text that is still accepted; those are the ones to judge.
    for _ in 0..100 * EVALUATED {
        let text = draw(&edited(), &mut runner);
        // NUL by an escape is none of NICO's values, so that it is overwritten; Nix fails on it.
        let read = parse(&text).map(|values| expected(&values));
        if let Some(values) = read.filter(|values| !values.to_string().contains("\\u0000")) {
            cases.push((text, values));
        }
        if cases.len() == 2 * EVALUATED {
            break;
        }
    }
    assert!(
        cases.len() > EVALUATED + 50,
        "too few edits were accepted: {}",
        cases.len() - EVALUATED
    );

    let directory =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nix-{}", std::process::id()));
    let evaluated = evaluate(&nix, &directory, &cases);
    let _ = fs::remove_dir_all(&directory);
    assert_eq!(evaluated.len(), cases.len());
    for ((text, meant), found) in cases.iter().zip(&evaluated) {
        assert_eq!(found, meant, "{text}");
    }
}

fn draw<T: std::fmt::Debug>(strategy: &impl Strategy<Value = T>, runner: &mut TestRunner) -> T {
    strategy
        .new_tree(runner)
        .expect("the strategy gives a value")
        .current()
}

/// Nix where it is installed; else the test says that it is skipped.
fn nix_or_skip(test: &str) -> Option<PathBuf> {
    rig::tools::on_path(test, "nix-instantiate")
}

/// What Nix makes of each text, imported from a file as a flake does it.
fn evaluate(nix: &Path, directory: &Path, cases: &[(String, Value)]) -> Vec<Value> {
    fs::create_dir_all(directory).expect("the test's directory can be made");
    let mut all = String::from("map import [\n");
    for (index, (text, _)) in cases.iter().enumerate() {
        fs::write(directory.join(format!("{index}.nix")), text).expect("a case can be written");
        all.push_str("  ./");
        all.push_str(&index.to_string());
        all.push_str(".nix\n");
    }
    all.push_str("]\n");
    fs::write(directory.join("all.nix"), all).expect("the list of cases can be written");
    let mut command = command(nix, directory);
    let output = command
        .args(["--eval", "--strict", "--json", "all.nix"])
        .output()
        .expect("nix-instantiate can be started");
    assert!(
        output.status.success(),
        "Nix refused a text: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("Nix prints JSON")
}

/// Nix in a directory, without a store and without settings of the machine's.
fn command(nix: &Path, directory: &Path) -> Command {
    let mut command = Command::new(nix);
    command
        .args(["--readonly-mode", "--store", "dummy://"])
        .current_dir(directory)
        .env("HOME", directory)
        .env("NIX_CONF_DIR", directory);
    command
}

#[test]
fn the_page_of_flakes_holds_what_nix_can_parse() {
    let blocks: Vec<&str> = include_str!("../../examples/README.md")
        .split("```nix\n")
        .skip(1)
        .filter_map(|block| Some(block.split_once("```")?.0))
        .collect();
    assert_eq!(blocks.len(), 3);
    let node = |name: &str, ip: &str| NixNode {
        name: name.to_owned(),
        ip: ip.to_owned(),
    };
    let shown = ClusterNix {
        namespace: "clusters".to_owned(),
        name: "prod".to_owned(),
        id: ClusterId::from_bits(0x9f2c_4e1a_b0d3_5c77),
        bootstrap: Some("cp-01".to_owned()),
        join: Some(node("cp-01", "10.0.0.11")),
        endpoint: Some(Endpoint {
            host: "10.0.0.10".to_owned(),
            port: 6443,
        }),
        lists: Arc::new(Lists::new(
            &[node("cp-01", "10.0.0.11")],
            &[node("worker-01", "10.0.0.21")],
        )),
    };
    assert_eq!(blocks[0], shown.render());
    let flake = include_str!("../../examples/flakes/k3s/flake.nix");
    assert_eq!(blocks[1], flake);

    let Some(nix) = nix_or_skip("the_page_of_flakes_holds_what_nix_can_parse") else {
        return;
    };
    let directory =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("the test's directory can be made");
    for (index, block) in blocks.iter().enumerate() {
        let file = format!("{index}.nix");
        fs::write(directory.join(&file), block).expect("a sketch can be written");
        let output = command(&nix, &directory)
            .args(["--parse", &file])
            .output()
            .expect("nix-instantiate can be started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors} in {block}");
    }
    let _ = fs::remove_dir_all(&directory);
}
