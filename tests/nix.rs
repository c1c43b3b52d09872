//! cluster.nix is data to Nix whatever the names and addresses in it are (INVARIANTS H1).
//!
//! Two judges that NICO's code has no part in: `rnix`, which parses Nix, and Nix itself where `nix-instantiate` is on PATH.
#![allow(
    clippy::expect_used,
    reason = "a test that cannot go on says why and fails"
)]

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use nico::api::names::ClusterId;
use nico::api::spec::Endpoint;
use nico::plan::cluster_nix::{ClusterNix, NixNode, Values, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rnix::ast::{AstToken, Attr, AttrSet, Entry, Expr, HasEntry, InterpolPart, LiteralKind};
use serde_json::{Map, Value, json};

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
                    control_plane,
                    workers,
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
            chars.push('\n');
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
        "controlPlane": nodes(&cluster.control_plane),
        "workers": nodes(&cluster.workers),
    })
}

/// The data that a text is by its syntax alone; an error where any of it would be computed.
fn data(text: &str) -> Result<Value, String> {
    let parsed = rnix::Root::parse(text);
    if !parsed.errors().is_empty() {
        return Err(format!("{:?}", parsed.errors()));
    }
    literal(parsed.tree().expr())
}

fn literal(expression: Option<Expr>) -> Result<Value, String> {
    match expression.ok_or("nothing where a value should be")? {
        Expr::AttrSet(set) => attributes(&set),
        Expr::List(list) => list.items().map(|item| literal(Some(item))).collect(),
        Expr::Str(string) => match string.normalized_parts().as_slice() {
            [] => Ok(json!("")),
            [InterpolPart::Literal(text)] => Ok(json!(text)),
            parts => Err(format!("more than a literal: {parts:?}")),
        },
        Expr::Literal(number) => match number.kind() {
            LiteralKind::Integer(number) => number
                .value()
                .map(Value::from)
                .map_err(|error| error.to_string()),
            other => Err(format!("no integer: {other:?}")),
        },
        Expr::Ident(word) if word.to_string() == "null" => Ok(Value::Null),
        other => Err(format!("not data: {other}")),
    }
}

fn attributes(set: &AttrSet) -> Result<Value, String> {
    if set.rec_token().is_some() {
        return Err("rec".to_owned());
    }
    let mut fields = Map::new();
    for entry in set.entries() {
        let Entry::AttrpathValue(entry) = entry else {
            return Err(format!("not an attribute: {entry}"));
        };
        let path: Vec<Attr> = entry
            .attrpath()
            .into_iter()
            .flat_map(|path| path.attrs().collect::<Vec<_>>())
            .collect();
        let [Attr::Ident(name)] = path.as_slice() else {
            return Err(format!("not a plain name: {entry}"));
        };
        if fields
            .insert(name.to_string(), literal(entry.value())?)
            .is_some()
        {
            return Err(format!("{name} stands twice"));
        }
    }
    Ok(Value::Object(fields))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_in_is_a_literal(cluster in cluster()) {
        let text = cluster.render();
        prop_assert_eq!(data(&text), Ok(meant(&cluster)), "{}", text);
    }

    #[test]
    fn the_header_is_one_comment_of_plain_ascii(cluster in cluster()) {
        let text = cluster.render();
        let (header, rest) = text.split_once('\n').unwrap_or_default();
        prop_assert!(header.starts_with("# Generated by NICO for KubernetesCluster "));
        prop_assert!(header.ends_with(". Do not edit."));
        prop_assert!(header.chars().all(|c| (' '..='~').contains(&c)));
        prop_assert_eq!(rest.lines().next(), Some("{"));
        let comments = rnix::Root::parse(&text)
            .syntax()
            .descendants_with_tokens()
            .filter_map(rowan_token)
            .filter(|token| rnix::ast::Comment::can_cast(token.kind()))
            .count();
        prop_assert_eq!(comments, 1);
    }

    #[test]
    fn what_is_written_is_read_back(cluster in cluster()) {
        let read = parse(&cluster.render());
        prop_assert_eq!(read.as_ref(), Some(&cluster.values()));
        prop_assert!(read.is_some_and(|read| cluster.same_values_except_founding(&read)));
    }

    // `rnix` leaves a bare carriage return as it is, where Nix reads a newline; those are for Nix to judge, below.
    #[test]
    fn an_edited_text_is_read_as_it_is_or_not_at_all(text in edited().prop_filter("bare return", |text| !text.contains('\r'))) {
        if let Some(values) = parse(&text) {
            prop_assert_eq!(data(&text), Ok(expected(&values)), "{}", text);
        }
    }

    #[test]
    fn any_text_has_an_answer(text in vec(fragment(), 0..40).prop_map(|fragments| fragments.concat())) {
        let _ = parse(&text);
    }
}

fn rowan_token(element: rnix::SyntaxElement) -> Option<rnix::SyntaxToken> {
    element.into_token()
}

#[test]
fn nix_itself_reads_the_same() {
    let Some(nix) = on_path("nix-instantiate") else {
        // Not by a macro, whose output the test harness would keep to itself.
        let _ = writeln!(
            io::stderr(),
            "skipped nix_itself_reads_the_same: nix-instantiate is not on PATH"
        );
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
        if let Some(values) = parse(&text) {
            cases.push((text, expected(&values)));
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

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// What Nix makes of each text, imported from a file as a flake does it; needs no store and no settings of the machine's.
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
    let output = Command::new(nix)
        .args([
            "--eval",
            "--strict",
            "--json",
            "--readonly-mode",
            "--store",
            "dummy://",
            "all.nix",
        ])
        .current_dir(directory)
        .env("HOME", directory)
        .env("NIX_CONF_DIR", directory)
        .output()
        .expect("nix-instantiate can be started");
    assert!(
        output.status.success(),
        "Nix refused a text: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("Nix prints JSON")
}
