//! Texts that no field may hold, and those that are dangerous in one of them.

use serde_json::json;

use crate::spec::cases::{Case, at, case, each, with};

/// What no text may hold that reaches Nix, a shell or a terminal.
const NASTY: [&str; 26] = [
    "a\"b",
    "a\\b",
    "a${builtins.readFile ./x}",
    "a''b",
    "a\nb",
    "a\n",
    "a\r",
    "a\tb",
    "a\0b",
    "a\u{202e}b",
    "a\u{200f}",
    "a b",
    " a",
    "a;rm -rf",
    "$(id)",
    "`id`",
    "a|b",
    "a&b",
    "a>b",
    "a*b",
    "a!b",
    "é",
    "а",
    "\u{1b}[31m",
    "-a",
    "",
];

const REPOSITORIES: [&str; 43] = [
    "ext::sh -c id",
    "ext::sh",
    "file:///etc",
    "/srv/git/repo",
    "../repo",
    "./repo",
    "--upload-pack=id",
    "-oProxyCommand=id",
    "ssh://-oProxyCommand=id/x",
    "git@-oProxyCommand=id:x",
    "-u@host:x",
    "ssh://-u@host/x",
    "git@host:-x",
    "https://user:password@host/repo",
    "https://token@host/repo",
    "http://:password@host/repo",
    "ssh://git:password@host/repo",
    "git:password@host:repo",
    "git://user@host/repo",
    "https://host",
    "https:///repo",
    "https://host:/repo",
    "https://host:123456/repo",
    "https://host/re po",
    "https://host/repo?ref=x",
    "https://host/repo#frag",
    "https://host/%00",
    "https://host/%0a",
    "https://host/%zz",
    "https://ho%73t/repo",
    "https://[::1]/repo",
    "HTTPS://host/repo",
    "ftp://host/repo",
    "github:owner/repo",
    "git+https://host/repo",
    "host:path",
    "https://host/$(id)",
    "https://host/`id`",
    "https://host/;id",
    "https://host/'",
    "https://host/\\",
    "https://host/{a,b}",
    "https://host/\u{202e}oper",
];

const SUBDIRS: [&str; 13] = [
    "..", "../..", "a/../b", "a/..", "/etc", "/", "a//b", "a/", "~/x", "a/$(id)", "--flag", "a:b",
    "a#b",
];

const KUBECONFIG_PATHS: [&str; 7] = [
    "admin.conf",
    "/",
    "/../etc/shadow",
    "/a/../../b",
    "~/.kube/config",
    "/a:b",
    "/a#",
];

const REFS: [&str; 16] = [
    "/x",
    ".x",
    "--upload-pack=id",
    "a~1",
    "a^",
    "a:b",
    "@{u}",
    "refs/*",
    "a..b",
    "x//y",
    "main.lock",
    "a.lock/b",
    "a/.b",
    "end/",
    "end.",
    "a/..",
];

const HOSTS: [&str; 18] = [
    "https://host",
    "host:6443",
    "[::1]",
    "::ffff:10.0.0.1",
    "fe80::1%eth0",
    "10.0.0",
    "10.0.0.256",
    "010.0.0.1",
    "1.2.3.4.5",
    "a..b",
    ".a",
    "a.",
    "a_b",
    "Host",
    "a-.b",
    "0x7f.1",
    "127.1",
    "a.0x7f",
];

const MACHINES: [&str; 5] = ["cp.01", "CP-01", "cp_01", "cp-", "../x"];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = NASTY.into_iter().flat_map(everywhere).collect();
    for (field, texts) in [
        ("spec.gitRepo", REPOSITORIES.as_slice()),
        ("spec.configurationSubdir", SUBDIRS.as_slice()),
        ("spec.kubeconfig.path", KUBECONFIG_PATHS.as_slice()),
        ("spec.ref", REFS.as_slice()),
        ("spec.controlPlaneEndpoint.host", HOSTS.as_slice()),
    ] {
        cases.extend(each(field, texts.iter().map(|text| json!(text))));
    }
    cases.extend(too_long());
    cases.extend(
        MACHINES
            .into_iter()
            .map(|name| machine("controlPlane", name)),
    );
    cases.extend(
        ["prod.example", "1.2", &"a".repeat(64), &"a".repeat(253)].map(|name| Case {
            name: name.to_owned(),
            ..case("metadata.name", with(json!({})))
        }),
    );
    cases
}

fn everywhere(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = [
        "spec.gitRepo",
        "spec.ref",
        "spec.configurationSubdir",
        "spec.credentialsRef.name",
        "spec.kubeconfig.path",
        "spec.controlPlaneEndpoint.host",
    ]
    .map(|field| at(field, json!(text)))
    .into();
    cases.push(machine("controlPlane", text));
    cases.push(machine("dataPlane", text));
    cases
}

fn machine(role: &str, name: &str) -> Case {
    let field = format!("spec.{role}.machines[0]");
    case(&field, with(json!({ role: { "machines": [name] } })))
}

fn too_long() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("spec.gitRepo", "https://host/", 2049),
        ("spec.ref", "", 256),
        ("spec.configurationSubdir", "", 1025),
        ("spec.credentialsRef.name", "", 254),
        ("spec.kubeconfig.path", "/", 1025),
        ("spec.controlPlaneEndpoint.host", "", 254),
    ]
    .map(|(field, start, length)| at(field, json!(format!("{start:a<length$}"))))
    .into();
    cases.push(machine("controlPlane", &"a".repeat(64)));
    cases.push(machine("dataPlane", &"a".repeat(300)));
    cases
}
