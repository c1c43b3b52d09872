//! `crds/kubernetescluster.yaml` is what `nico crd` prints.

use std::path::Path;

#[test]
fn the_committed_definition_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/kubernetescluster.yaml");
    let generated = nico::cli::crd::print().expect("the definition can be written as YAML");
    if std::env::var_os("NICO_BLESS").is_some() {
        std::fs::write(&path, &generated).expect("the definition can be written to crds/");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "crds/kubernetescluster.yaml is not what the code says; mend: NICO_BLESS=1 cargo test --test program crd"
    );
}

/// A pattern beside a CEL rule refuses the same value twice, the first time with a regular expression.
#[test]
fn nothing_is_refused_twice() {
    let committed = include_str!("../../crds/kubernetescluster.yaml");
    let patterns: Vec<&str> = committed
        .lines()
        .filter(|it| it.contains("pattern:"))
        .collect();
    assert_eq!(patterns, Vec::<&str>::new());
}
