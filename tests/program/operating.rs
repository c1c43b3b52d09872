//! What the pages for users say: the flags, and each command of kubectl, which is run. Those of the ten steps run in `ten_steps.rs`, and
//! those of a restore in `e2e/restored.rs`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use rig::control_plane::{ControlPlane, Options};
use rig::crds::install_crd_text;
use rig::{deploy, pages};
use serde_json::{Value, json};

const README: &str = include_str!("../../README.md");
const INSTALLING: &str = include_str!("../../deploy/README.md");
const OPERATIONS: &str = include_str!("../../deploy/OPERATIONS.md");
const RUNBOOKS: &str = include_str!("../../deploy/monitoring/RUNBOOKS.md");
const ARGO_CD: &str = include_str!("../../deploy/gitops/argocd/argocd-cm.yaml");
const OTHERS: [&str; 4] = [
    include_str!("../../deploy/SECURITY.md"),
    include_str!("../../deploy/gitops/README.md"),
    include_str!("../../examples/README.md"),
    include_str!("../../examples/flakes/README.md"),
];
/// What a page says of a command, without one that could be entered.
const MENTIONED: [&str; 6] = [
    "kubectl apply",
    "kubectl create",
    "kubectl delete --cascade=orphan",
    "kubectl describe",
    "kubectl logs --previous",
    "kubectl wait",
];

/// Each flag of `nico run --help`: its name, and its part of the text.
fn flags(help: &str) -> Vec<(String, &str)> {
    let parts = help.split("\n      --").skip(1);
    let named = parts.map(|part| {
        let is_word = |c: char| c.is_ascii_lowercase() || c == '-';
        let end = part.find(|c| !is_word(c)).unwrap();
        (format!("--{}", &part[..end]), part)
    });
    named.collect()
}

/// What stands between these two, where it is there.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

#[test]
fn the_table_of_flags_says_what_the_help_says() {
    let mut nico = Command::new(env!("CARGO_BIN_EXE_nico"));
    let help = nico.args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    // The last one is followed by `-h` and `-V`, which stand for themselves.
    let (help, _) = help.split_once("\n  -h").unwrap();
    let flags = flags(help);
    let rows = pages::table(INSTALLING, "| flag | environment | default | meaning |");
    let names: Vec<&String> = rows.iter().map(|row| &row[0]).collect();
    let told: Vec<&String> = flags.iter().map(|(name, _)| name).collect();
    assert_eq!(names, told);
    for (row, (name, part)) in rows.iter().zip(&flags) {
        assert_eq!(
            between(part, "[env: ", "]"),
            Some(row[1].as_str()),
            "{name}"
        );
        let default = between(part, "[default: ", "]").unwrap_or("none");
        // The page has no room for a sentence.
        assert!(default.starts_with(row[2].as_str()), "{name}: {default}");
        let values = part.lines().filter_map(|line| between(line, "- ", ":"));
        for value in values {
            let is_told = row[3].contains(value);
            assert!(is_told, "{name}: {value}");
        }
        for bounds in ["1s to 24h", "1s to 5m"] {
            assert_eq!(row[3].contains(bounds), part.contains(bounds), "{name}");
        }
    }
}

/// All commands of kubectl on a page, in their order: as lines of their own, in comments, and within sentences.
fn commands(page: &str) -> Vec<String> {
    let page = page.replace("\n    kubectl", " `kubectl");
    let page = page.replace("\n#   kubectl", " `kubectl");
    let spans = page
        .match_indices("`kubectl ")
        .map(|(at, _)| &page[at + 1..]);
    let ends = |span: &str| span.find(['`', '\n']).unwrap_or(span.len());
    spans
        .map(|span| span[..ends(span)].trim().to_owned())
        .collect()
}

/// An API server with the definitions of the Prometheus Operator.
async fn control_plane() -> ControlPlane {
    let control_plane = ControlPlane::start(Options::management()).await.unwrap();
    let definitions = include_str!("prometheus-operator.yaml");
    install_crd_text(&control_plane.client(), definitions).await;
    control_plane
}

/// Runs a command in the root of the repository, in a shell: what it printed.
fn run(control_plane: &ControlPlane, command: &str) -> String {
    let kubectl = control_plane.kubectl_command();
    let words = [kubectl.get_program()]
        .into_iter()
        .chain(kubectl.get_args());
    let words: Vec<String> = words.map(|it| format!("'{}'", it.display())).collect();
    let script = format!("kubectl() {{ {} \"$@\"; }}\n{command}", words.join(" "));
    let mut shell = Command::new("sh");
    shell.args(["-euc", &script]);
    let output = shell.current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let is_well = output.status.success() && !told.contains("Warning: ");
    assert!(is_well, "{command}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_is_made_looked_at_and_removed_by_the_commands_of_the_pages() {
    let control_plane = control_plane().await;
    let of_life = commands(INSTALLING);
    let removes = |command: &&String| command.contains(" delete ");
    let looks = |command: &&String| command.contains(" get ");
    let installs = of_life.iter().filter(|it| !removes(it) && !looks(it));
    for command in installs {
        run(&control_plane, command);
    }
    in_use(&control_plane).await;
    for command in of_life.iter().filter(looks).chain(&rest()) {
        let printed = run(&control_plane, command);
        if command.contains("range .status.machines") {
            assert_eq!(printed, "cp-01\tcontrol-plane\tApplying\tNIO is at work\n");
        }
    }
    // It was added to what is there.
    let settings = run(
        &control_plane,
        "kubectl -n argocd get configmap argocd-cm -o jsonpath='{.data}'",
    );
    let settings: Value = serde_json::from_str(&settings).unwrap();
    assert_eq!(settings["url"], "https://argocd.example.com");
    assert_eq!(settings.as_object().unwrap().len(), 2, "{settings}");

    let removals: Vec<&String> = of_life.iter().filter(removes).collect();
    let [all_namespaces, clusters, installation] = removals[..] else {
        panic!("{removals:?}");
    };
    run(&control_plane, all_namespaces);
    run(&control_plane, "kubectl apply -k deploy/");
    run(&control_plane, clusters);
    run(&control_plane, installation);
    let kinds = "crd,ns,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
    let left = run(&control_plane, &format!("kubectl get -o name {kinds}"));
    let ours: Vec<&str> = left.lines().filter(|line| line.contains("nico")).collect();
    assert_eq!(ours, Vec::<&str>::new());
}

/// What a leader, a user and Argo CD add to an installation.
async fn in_use(control_plane: &ControlPlane) {
    run(
        control_plane,
        "kubectl -n clusters create -f examples/listed.yaml",
    );
    let row = json!({"name": "cp-01", "role": "control-plane", "state": "Applying", "message": "NIO is at work"});
    let status = json!({"status": {"machines": [row]}});
    run(
        control_plane,
        &format!(
            "kubectl -n clusters patch kcluster prod --subresource=status --type=merge -p '{status}'"
        ),
    );
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "nico-leader"}, "spec": {"holderIdentity": "nico-1_12345678"},
    });
    let client = control_plane.client();
    let made = deploy::apply_value(&client, "nico-system", lease).await;
    made.unwrap();
    run(control_plane, "kubectl create namespace argocd");
    run(
        control_plane,
        "kubectl -n argocd create configmap argocd-cm --from-literal=url=https://argocd.example.com",
    );
}

/// The commands of all pages but those of the installation, of the ten steps and of a restore. The last deletes the cluster.
fn rest() -> Vec<String> {
    let (before, steps) = README
        .split_once("\n## From three machines to a cluster\n")
        .unwrap();
    let (steps, after) = steps.split_once("\n## ").unwrap();
    // Within its sentences: the lines are those of the ten steps.
    let steps = steps.replace("\n    kubectl", "");
    let pages = [OPERATIONS, RUNBOOKS, ARGO_CD];
    let pages = pages.into_iter().chain(OTHERS);
    let pages = pages.chain([before, &steps, after]);
    let all: Vec<String> = pages.flat_map(commands).collect();
    // The example's cluster has another name there.
    let all = all
        .into_iter()
        .map(|it| it.replace(" kcluster home", " kcluster prod"));
    let (mentioned, whole): (Vec<String>, Vec<String>) =
        all.partition(|command| MENTIONED.contains(&command.as_str()));
    let mentioned: BTreeSet<&str> = mentioned.iter().map(String::as_str).collect();
    assert_eq!(mentioned, BTreeSet::from(MENTIONED));
    let last = whole.last().unwrap();
    assert_eq!(last, "kubectl -n clusters delete kcluster prod");
    assert!(whole.len() > 13, "{whole:?}");
    whole
}

/// A release is tested with the compiler that builds its image, which must not be older than what the sources ask for.
#[test]
fn a_release_is_tested_with_the_compiler_of_its_image() {
    let workflow = include_str!("../../.github/workflows/release.yaml");
    let workflow: Value = serde_yaml::from_str(workflow).unwrap();
    let mut steps = workflow["jobs"]["test"]["steps"].as_array().unwrap().iter();
    let install = steps.find(|step| step["name"] == "Rust").unwrap();
    let script = install["run"].as_str().unwrap();
    let (first, _) = script.split_once('\n').unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-euc", &format!("{first}\nprintf %s \"$version\"")]);
    let told = shell
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let numbers =
        |version: &str| -> Vec<u32> { version.split('.').map(|it| it.parse().unwrap()).collect() };
    assert_eq!(numbers(&told).len(), 3, "{told}");
    let asked = between(include_str!("../../Cargo.toml"), "rust-version = \"", "\"");
    assert!(numbers(&told) >= numbers(asked.unwrap()), "{told}");
}
