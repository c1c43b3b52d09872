//! A machine's SSH key lies in the cluster's namespace, and is what NIO hands out; else nothing is written for the machine.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use nico::api::conditions::{
    ConditionType::{MachinesAvailable, RollingOut},
    Reason,
};
use nico::api::nio::{Generation, Machine, SecretRef};
use nico::api::parsed::Parsed;
use nico::plan::facts::{ObjectFacts, SecretFacts};
use nico::plan::observed::SshKeyView;
use nico::plan::ssh_key::{judge, secret_of};
use serde_json::json;

use crate::facts::complete;
use crate::given::{PROD, cluster, given, machine, member, planned, settled};
use crate::rollout::{name, rolled};
use crate::world::{World, rotated_key, usable_key};

const CLASSIC: Option<Generation> = Some(Generation::Classic);
const V1: Option<Generation> = Some(Generation::V1);

/// A Machine that names its Secret so.
fn names(secret: &str, namespace: Option<&str>) -> Machine {
    let mut machine = machine("w").object;
    machine.spec.ssh_key_secret_ref = Some(SecretRef {
        name: (!secret.is_empty()).then(|| Parsed::of(secret)),
        namespace: namespace.map(Parsed::of),
    });
    machine
}

/// What is made of a Secret with these keys.
fn judged(keys: &[&str], nio: Option<Generation>, given: bool) -> SshKeyView {
    let object = ObjectFacts::of(&ObjectMeta::default());
    let found = SecretFacts {
        object,
        keys: keys.iter().map(|key| ((*key).to_owned(), None)).collect(),
        fingerprint: keys
            .contains(&"ssh-privatekey")
            .then(|| Ok("SHA256:w".to_owned())),
        is_kubeconfig: false,
        kubeconfig: None,
    };
    judge(&name("w"), "ssh-w", Some(&found), nio, given)
}

#[test]
fn a_key_that_cannot_be_read_is_unusable_and_the_mend_is_said() {
    let found = SecretFacts {
        object: ObjectFacts::of(&ObjectMeta::default()),
        keys: [("ssh-privatekey".to_owned(), None)].into(),
        fingerprint: Some(Err("it is too long: mend it".to_owned())),
        is_kubeconfig: false,
        kubeconfig: None,
    };
    let view = judge(&name("w"), "ssh-w", Some(&found), CLASSIC, true);
    let (reason, message) = why(view);
    assert_eq!(reason, Reason::SSHKeyUnusable);
    assert_eq!(
        message,
        "Secret ssh-w of Machine w, key ssh-privatekey: it is too long: mend it"
    );
}

fn why(view: SshKeyView) -> (Reason, String) {
    match view {
        SshKeyView::Unusable(cause) => (cause.reason, cause.message),
        SshKeyView::Usable { secret, .. } => panic!("{secret} is used"),
    }
}

#[test]
fn a_key_counts_where_its_secret_lies_in_the_clusters_namespace() {
    let secret = |namespace, nio, own| {
        secret_of(&name("w"), &names("ssh-w", namespace), nio, own).map(str::to_owned)
    };
    let own = Ok("ssh-w".to_owned());
    assert_eq!(secret(Some("team"), CLASSIC, "team"), own);
    // Where a Machine names no namespace, classic takes `default`.
    assert_eq!(secret(None, CLASSIC, "default"), own);
    // The Go generation knows no other namespace.
    assert_eq!(secret(None, V1, "team"), own);
    assert_eq!(secret(Some("vault"), V1, "team"), own);

    for (namespace, lies_in) in [(Some("vault"), "vault"), (None, "default")] {
        let (reason, message) = why(secret(namespace, CLASSIC, "team").unwrap_err());
        assert_eq!(reason, Reason::SSHKeyUnusable);
        for part in [
            "Machine w",
            "Secret ssh-w",
            &format!("namespace {lies_in}"),
            "namespace of the Machine to team",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    let nameless = names("", Some("team"));
    let view = secret_of(&name("w"), &nameless, CLASSIC, "team").unwrap_err();
    assert_eq!(why(view).0, Reason::SSHKeyMissing);
}

#[test]
fn with_classic_the_key_that_is_given_is_the_first_of_its_secret() {
    assert_eq!(
        judged(&["ssh-privatekey"], CLASSIC, true),
        usable_key(&name("w"))
    );
    let pair = ["ssh-publickey", "ssh-privatekey"];
    assert_eq!(judged(&pair, CLASSIC, true), usable_key(&name("w")));
    for before in ["known_hosts", "id_rsa", "SSH-PRIVATEKEY", "ssh-"] {
        let keys = [before, "ssh-privatekey"];
        let (reason, message) = why(judged(&keys, CLASSIC, true));
        assert_eq!(reason, Reason::SSHKeyUnusable);
        for part in ["Machine w", "Secret ssh-w", &format!("move {before} into")] {
            assert!(message.contains(part), "{part}: {message}");
        }
        // NICO and the Go generation read the one that is named.
        assert_eq!(judged(&keys, V1, true), usable_key(&name("w")));
        assert_eq!(judged(&keys, CLASSIC, false), usable_key(&name("w")));
    }
    assert_eq!(
        why(judged(&["id_rsa"], CLASSIC, true)).0,
        Reason::SSHKeyMissing
    );
    let nothing = judge(&name("w"), "ssh-w", None, CLASSIC, true);
    assert_eq!(why(nothing).0, Reason::SSHKeyMissing);
}

/// The two ways in which a key that is there is of no use.
fn unusable() -> [SshKeyView; 2] {
    let elsewhere = names("ssh-w", Some("vault"));
    [
        secret_of(&name("w"), &elsewhere, CLASSIC, "team").unwrap_err(),
        judged(&["known_hosts", "ssh-privatekey"], CLASSIC, true),
    ]
}

#[test]
fn a_machine_whose_key_cannot_be_used_is_named_and_not_written() {
    for view in unusable() {
        let with = |view: SshKeyView| {
            move |world: &mut World| {
                world.ssh_keys.insert(name("w"), view);
            }
        };
        // Before the founding nothing is claimed.
        given(cluster().control_plane(["a"]).workers(["w"]))
            .machines(["a", "w"])
            .and(with(view.clone()))
            .when(planned)
            .then(|seen| {
                seen.says(MachinesAvailable, "False", Reason::SSHKeyUnusable, "ssh-w");
            })
            .when(settled)
            .then(|seen| assert!(!seen.world.configurations.contains_key("w")))
            .when(|world| {
                world.ssh_keys.insert(name("w"), usable_key(&name("w")));
            })
            .when(settled)
            .then(|seen| {
                assert!(seen.world.ready(PROD), "{}", seen.world.story());
                let held = &seen.observed.configurations["w"];
                assert_eq!(member(held).key_secret(), Some("ssh-w"));
            });
        // A member keeps what it has.
        given(cluster().control_plane(["a"]).workers(["v", "w"]))
            .machines(["a", "v", "w"])
            .when(settled)
            .when(with(view))
            .when(|world| {
                world.edit(PROD, |spec| {
                    spec["gitRepo"] = json!("https://example.com/new.git")
                })
            })
            .when(settled)
            .then(|seen| {
                assert_eq!(rolled(&seen.world), ["v"]);
                seen.says(RollingOut, "True", Reason::SSHKeyUnusable, "ssh-w");
            });
    }
}

#[test]
fn a_rotated_key_rolls_its_machine_alone() {
    given(cluster().control_plane(["a"]).workers(["v", "w"]))
        .machines(["a", "v", "w"])
        .when(settled)
        .when(|world| {
            let machine = name("v");
            let key = rotated_key(&machine, "SHA256:rotated");
            world.ssh_keys.insert(machine, key);
        })
        .when(settled)
        .then(|seen| {
            assert!(seen.world.ready(PROD), "{}", seen.world.story());
            assert_eq!(rolled(&seen.world), ["v"]);
        });
}

/// What each round of reading asks for while a selector looks for one machine whose Secret is there: the number of Secrets.
fn rounds(without_secret: usize) -> Vec<usize> {
    let built = given(cluster().select_control_plane(1));
    let built = (0..without_secret).fold(built, |built, number| {
        built.with(machine(&format!("m-{number:04}")).cp().without_key())
    });
    let world = &mut built.with(machine("z").cp()).0;
    let mut facts = world.facts(PROD).unwrap();
    let mut rounds = Vec::new();
    let observed = complete(&mut facts, |needs, facts| {
        rounds.push(
            needs
                .secrets
                .keys()
                .filter(|it| it.starts_with("ssh-"))
                .count(),
        );
        world.answer(needs, facts);
    });
    let plan = nico::plan::plan(&observed, world.now, &world.settings);
    assert!(plan.selection.joins(&name("z")), "{:?}", plan.selection);
    rounds.retain(|asked| *asked > 0);
    rounds
}

#[test]
fn the_keys_of_many_candidates_are_read_in_few_rounds() {
    assert_eq!(rounds(0), [1]);
    assert_eq!(rounds(1), [1, 1]);
    assert!(rounds(80).len() <= 8, "{:?}", rounds(80));
    let many = rounds(1100);
    assert!(many.len() <= 12, "{many:?}");
    assert_eq!(many.iter().sum::<usize>(), 1101, "each once");
}
