use std::cell::Cell;

use super::*;

thread_local! {
    /// Counts character comparisons of pattern matching.
    pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
}

const ONE: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMPVPDA40Ivsb6Rw+cwwO9TW0tLFVmtbIvRnCW2vEkHj";
const TWO: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBj6K8fVVPVY0/W8YhH1SUUc02jqc1eR5nLzpCxMIYM8";

fn key(text: &str) -> PublicKey {
    text.parse().expect("the key is well-formed")
}

fn lookup(text: &str, host: &str, port: u16) -> Lookup {
    let known = KnownHosts::parse("prod-known-hosts", text, Policy::PinnedOnly);
    let pins = known.pins(host, port).expect("it is not too large");
    pins.lookup(&key(ONE))
}

#[test]
fn hosts_ports_and_other_lines() {
    let text = format!(
        "# a comment\n\n10.0.0.11 {ONE} root@cp-01\n[10.0.0.11]:2222 {TWO}\ngarbage\ncp-02,10.0.0.12\t{TWO}\n"
    );
    assert_eq!(lookup(&text, "10.0.0.11", 22), Lookup::Known);
    assert_eq!(
        lookup(&text, "10.0.0.11", 2222),
        Lookup::Changed { lines: vec![4] }
    );
    assert_eq!(
        lookup(&text, "10.0.0.12", 22),
        Lookup::Changed { lines: vec![6] }
    );
    assert_eq!(
        lookup(&text, "CP-02", 22),
        Lookup::Changed { lines: vec![6] }
    );
    assert_eq!(lookup(&text, "10.0.0.1", 22), Lookup::Unknown);
    assert_eq!(lookup(&text, "10.0.0.11", 23), Lookup::Unknown);
    assert_eq!(lookup("", "10.0.0.11", 22), Lookup::Unknown);
}

#[test]
fn a_host_is_pinned_by_any_line_that_names_it() {
    let pins = |text: &str, host: &str| {
        let line = line_for(host, 22, &key(TWO));
        KnownHosts::parse("c", text, Policy::TrustOnFirstUse).pins_host_of(&line)
    };
    for text in ["10.0.0.11", "cp-01,10.0.0.11", "10.0.0.*"] {
        assert!(
            pins(&format!("# of NICO's\n{text} {ONE}\n"), "10.0.0.11"),
            "{text}"
        );
    }
    for text in ["10.0.0.1", "[10.0.0.11]:2222", "@cert-authority *"] {
        assert!(!pins(&format!("{text} {ONE}\n"), "10.0.0.11"), "{text}");
    }
}

#[test]
fn several_keys_of_a_host() {
    let text = format!("cp {TWO}\ncp {ONE}\n");
    assert_eq!(lookup(&text, "cp", 22), Lookup::Known);
    let known = KnownHosts::parse("c", &text, Policy::TrustOnFirstUse);
    assert_eq!(
        known.pins("cp", 22).expect("it is not too large").types(),
        [Algorithm::Ed25519, Algorithm::Ed25519]
    );
}

#[test]
fn revoked_keys_and_authorities() {
    let revoked = format!("cp {ONE}\n@revoked * {ONE}\n");
    assert_eq!(lookup(&revoked, "cp", 22), Lookup::Revoked { line: 2 });
    let authority = format!("@cert-authority * {ONE}\n");
    assert_eq!(lookup(&authority, "cp", 22), Lookup::Unknown);
    assert_eq!(
        lookup(&format!("@revoked * {TWO}\n"), "cp", 22),
        Lookup::Unknown
    );
}

#[test]
fn patterns() {
    assert_eq!(
        lookup(&format!("10.0.0.* {ONE}"), "10.0.0.11", 22),
        Lookup::Known
    );
    assert_eq!(lookup(&format!("cp-0? {ONE}"), "cp-01", 22), Lookup::Known);
    assert_eq!(
        lookup(&format!("cp-*,!cp-01 {ONE}"), "cp-01", 22),
        Lookup::Unknown
    );
    assert_eq!(
        lookup(&format!("!cp-01,cp-* {ONE}"), "cp-02", 22),
        Lookup::Known
    );
    assert_eq!(lookup(&format!("*a*b {ONE}"), "xaxxb", 22), Lookup::Known);
    assert_eq!(
        lookup(&format!("*a*b {ONE}"), "xaxxbc", 22),
        Lookup::Unknown
    );
}

#[test]
fn an_address_is_pinned_however_it_is_spelled() {
    for (line, host, port) in [
        ("FD00:0:0::11", "fd00::11", 22),
        ("fd00::11", "FD00:0::11", 22),
        ("cp-01,FD00:0:0::11", "fd00::11", 22),
        ("[FD00:0:0::11]:2222", "fd00::11", 2222),
        ("::ffff:10.0.0.11", "10.0.0.11", 22),
        ("10.0.0.11", "::FFFF:10.0.0.11", 22),
    ] {
        let text = format!("{line} {ONE}");
        assert_eq!(lookup(&text, host, port), Lookup::Known, "{line}");
        let new = line_for(host, port, &key(TWO));
        let pins = KnownHosts::parse("c", &text, Policy::TrustOnFirstUse);
        assert!(pins.pins_host_of(&new), "{line}");
    }
    let but = format!("fd00::*,!FD00:0::11 {ONE}");
    assert_eq!(lookup(&but, "fd00::11", 22), Lookup::Unknown);
}

#[test]
fn a_hashed_name_hides_whom_it_pins() {
    // As OpenSSH's `ssh-keygen -H` made it of a line for cp-01.
    let hashed = format!("|1|08oFISMPwTogL009WBp6CDk1M8s=|KYGH803fcOYtyGg0IQfQGWxbjFI= {ONE}");
    let hidden = |line| Lookup::Hashed { line };
    for host in ["cp-01", "cp-02"] {
        assert_eq!(lookup(&hashed, host, 22), hidden(1));
        let beside = format!("{host} {ONE}\n{hashed}\n");
        assert_eq!(lookup(&beside, host, 22), hidden(2));
        let revoked = format!("{host} {ONE}\n\n@revoked {hashed}\n");
        assert_eq!(lookup(&revoked, host, 22), hidden(3));
        let line = line_for(host, 22, &key(TWO));
        assert!(KnownHosts::parse("c", &hashed, Policy::TrustOnFirstUse).pins_host_of(&line));
    }
}

#[test]
fn a_line_is_added_once() {
    let line = line_for("fd00::1", 2222, &key(&format!("{ONE} a comment")));
    assert_eq!(line, format!("[fd00::1]:2222 {ONE}"));
    let text = with_added("cp x", &line);
    assert_eq!(text, format!("cp x\n{line}\n"));
    assert_eq!(with_added(&text, &line), text);
    assert_eq!(lookup(&text, "fd00::1", 2222), Lookup::Known);
    assert_eq!(line_for("CP", 22, &key(ONE)), format!("cp {ONE}"));
}

/// A tenant controls both the host names and the patterns.
#[test]
fn no_text_takes_many_steps() {
    let host = ["a".repeat(63).as_str(); 4].join(".").split_off(2);
    assert_eq!(host.len(), 253);
    let line = line_for(&host, 22, &key(TWO));
    let steps = |text: &str| {
        STEPS.set(0);
        let known = KnownHosts::parse("c", text, Policy::TrustOnFirstUse);
        let pins = known.pins(&host, 22);
        let _ = known.pins_host_of(&line);
        (STEPS.get(), pins.is_none())
    };
    let many = |pattern: &str, bytes: usize| {
        let patterns = vec![pattern; bytes / (pattern.len() + 1)].join(",");
        format!("{patterns} {ONE}\n")
    };
    let star = format!("*{}b", "?".repeat(120));
    let room = MAX_TEXT - 200;
    for pattern in [star.as_str(), "*b", "*a*b", "!*b", "?b", "a?", &host, "a"] {
        let (steps, is_refused) = steps(&many(pattern, room));
        assert!(steps <= 2 * 253 * MAX_STARS, "{steps} for {pattern}");
        assert_eq!(is_refused, pattern.contains('*'), "{pattern}");
    }
    let (most, is_refused) = steps(&many(&star, MAX_STARS));
    assert!(most <= 2 * 253 * MAX_STARS && !is_refused, "{most}");
    let long = format!("{}*", "a".repeat(MAX_PATTERN));
    assert_eq!(steps(&many(&long, room)), (0, false), "none can match");
    assert!(steps(&many("a", 2 * MAX_TEXT)).1);
}

#[test]
fn of_the_lines_that_nico_added_those_of_former_hosts_go() {
    let own = |host: &str, port| own_line(&line_for(host, port, &key(ONE)));
    let by_hand = [
        "# a comment of nico".to_owned(),
        "# a b nico".to_owned(),
        format!("10.0.0.9 {ONE}"),
        format!("@revoked 10.0.0.9 {ONE} nico"),
        format!("10.0.0.9 {ONE} not nico"),
        format!("10.0.0.9,10.0.0.8 {ONE} mine"),
    ];
    let lines = |lines: &[String]| format!("{}\n", lines.join("\n"));
    let stay: Vec<String> = by_hand.into_iter().chain([own("10.0.0.1", 22)]).collect();
    let former = [own("10.0.0.9", 22), own("10.0.0.1", 2222), own("cp-09", 22)];
    let text = lines(&[&former[..], &stay, &former].concat());
    let hosts = BTreeSet::from(["10.0.0.1".to_owned()]);
    assert_eq!(without_former(&text, &hosts, 22), lines(&stay));
    assert_eq!(without_former(&lines(&stay), &hosts, 22), lines(&stay));
    let everyone = BTreeSet::from(["10.0.0.1", "10.0.0.9", "CP-09"].map(str::to_owned));
    let text = lines(&[own("10.0.0.9", 22), own("cp-09", 22)]);
    assert_eq!(without_former(&text, &everyone, 22), text);
}

#[test]
fn a_line_that_nico_added_pins_its_host() {
    let line = own_line(&line_for("10.0.0.1", 22, &key(ONE)));
    let hosts = KnownHosts::parse("m", &line, Policy::TrustOnFirstUse);
    assert!(hosts.pins_host_of(&line));
    let pins = hosts.pins("10.0.0.1", 22).expect("it is short");
    assert_eq!(pins.lookup(&key(ONE)), Lookup::Known);
    assert!(pins.is_pinned());
    let other = hosts.pins("10.0.0.2", 22).expect("it is short");
    assert!(!other.is_pinned());
}
