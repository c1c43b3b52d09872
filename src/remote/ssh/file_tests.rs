//! Reading files from the rig's machines.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use rig::machines::Answer;

use super::MAX_FILE;
use super::command::{self, As};
use super::tests::{PATH, Place, known, outcome};
use crate::remote::known_hosts::Policy;

#[tokio::test]
async fn a_file_is_read() {
    let place = Place::new().await;
    place.host.put_file(PATH, "content");
    let (session, line) = place.connect(&known("", Policy::TrustOnFirstUse)).await;
    let session = session.expect("the machine lets us in");
    assert_eq!(
        outcome(session.read_file(PATH).await),
        Ok(Some(b"content".to_vec()))
    );
    assert_eq!(place.host.execs(), [command::read(PATH, As::User)]);
    assert!(place.saw_only_public_keys());
    assert_eq!(line, Some(place.line()));
}

#[tokio::test]
async fn sudo_is_asked_second() {
    let place = Place::new().await;
    place.host.put_file(PATH, "content");
    place.host.need_sudo(true);
    let session = place.session().await;
    assert_eq!(
        outcome(session.read_file(PATH).await),
        Ok(Some(b"content".to_vec()))
    );
    assert_eq!(
        place.host.execs(),
        [command::read(PATH, As::User), command::read(PATH, As::Root)]
    );
    place.host.no_sudo(true);
    assert_eq!(outcome(session.read_file(PATH).await), Err("denied"));
    assert_eq!(outcome(session.read_file("/none").await), Ok(None));
}

#[tokio::test]
async fn what_the_login_shell_prints_is_no_part_of_the_file() {
    let place = Place::new().await;
    place.host.greets_with("Welcome to cp-01\nno colon here");
    place.host.put_file(PATH, "content");
    let session = place.session().await;
    let read = async || outcome(session.read_file(PATH).await);
    assert_eq!(read().await, Ok(Some(b"content".to_vec())));
    place.host.need_sudo(true);
    assert_eq!(read().await, Ok(Some(b"content".to_vec())));
    place.host.greets_with(&"x".repeat(3 * MAX_FILE));
    assert_eq!(read().await, Err("too large"));
}

#[tokio::test]
async fn a_missing_file_is_told_from_a_forbidden_one_in_any_language() {
    let place = Place::new().await;
    place.host.speak_french(true);
    place.host.put_file(PATH, "content");
    place.host.need_sudo(true);
    place.host.no_sudo(true);
    let session = place.session().await;
    assert_eq!(outcome(session.read_file(PATH).await), Err("denied"));
    assert_eq!(outcome(session.read_file("/none").await), Ok(None));
}

#[tokio::test]
async fn quotes_do_not_end_the_word() {
    let place = Place::new().await;
    place.host.put_file("/it's; id", "x");
    let session = place.session().await;
    assert_eq!(
        outcome(session.read_file("/it's; id").await),
        Ok(Some(b"x".to_vec()))
    );
}

#[tokio::test]
async fn no_more_than_64_kib() {
    let place = Place::new().await;
    let session = place.session().await;
    place.host.put_file("/full", vec![b'x'; MAX_FILE]);
    assert_eq!(
        outcome(session.read_file("/full").await).map(|read| read.map(|bytes| bytes.len())),
        Ok(Some(MAX_FILE))
    );
    place.host.put_file("/more", vec![b'x'; MAX_FILE + 1]);
    assert_eq!(outcome(session.read_file("/more").await), Err("too large"));
    place.host.answer("/endless", Answer::Endless);
    assert_eq!(
        outcome(session.read_file("/endless").await),
        Err("too large")
    );
}

#[tokio::test]
async fn a_command_without_a_status_is_no_file() {
    let place = Place::new().await;
    place.host.answer(PATH, Answer::NoStatus(b"half".to_vec()));
    assert_eq!(
        outcome(place.session().await.read_file(PATH).await),
        Err("cut off")
    );
}
