//! What statuses say, and for how long.

use super::*;

#[test]
fn a_ready_that_stands_while_the_secret_is_gone_or_changed_is_found() {
    let deleted = |noticed: f64| {
        let mut story = synced();
        story.gone(20.0, "db");
        story.history.own_deletions.insert("uid-of-db".to_owned());
        story.said(noticed, "False", "TargetDrifted", 1);
        story.rules()
    };
    assert_eq!(deleted(22.0), []);
    assert_eq!(deleted(60.0), [Rule::FalseReady]);
    let mut story = synced();
    let version = story.target(20.0, "db", 1, 1.0, &content("by hand"));
    story.history.own_writes.insert(version);
    assert_eq!(story.rules(), [], "nothing happened since");
    story.history.ended = Some(at(60.0));
    assert_eq!(story.rules(), [Rule::FalseReady]);
}

#[test]
fn a_ready_that_names_an_overtaken_version_is_found() {
    let mut story = moved_on();
    story.passes(20.0);
    assert_eq!(story.rules(), [], "two intervals and a little");
    story.passes(60.0);
    assert_eq!(story.rules(), [Rule::Late]);
    story.trouble(Trouble::Okms, &[], 9.0, 1000.0);
    assert_eq!(story.rules(), [], "OKMS cannot be asked, and five minutes are not over");
    story.passes(400.0);
    assert_eq!(story.rules(), [Rule::StaleReady]);
}

#[test]
fn what_is_forbidden_elsewhere_excuses_nothing() {
    let late = |paths: &[&str]| {
        let mut story = moved_on();
        story.trouble(Trouble::Grants, paths, 5.0, 55.0);
        story.passes(60.0);
        story.rules()
    };
    assert_eq!(late(&[PATH]), []);
    assert_eq!(late(&["shared/*", "team/p01", PATH]), []);
    assert_eq!(late(&["team/*"]), []);
    assert_eq!(late(&["shared/*", "team/p01"]), [Rule::Late]);
}

#[test]
fn what_was_forbidden_excuses_no_longer_than_until_it_is_asked_again() {
    let until = |second: f64| {
        let mut story = moved_on();
        story.trouble(Trouble::Grants, &[PATH], 9.0, 17.0);
        story.passes(second);
        story.rules()
    };
    // 8 seconds, then 10 and 40 until it is asked again; then two intervals and a little.
    assert_eq!(until(66.0 + 24.0), []);
    assert_eq!(until(68.0 + 24.0), [Rule::Late]);
}

#[test]
fn a_path_that_is_forbidden_again_and_again_is_asked_more_and_more_seldom() {
    let mut story = moved_on();
    story.trouble(Trouble::Grants, &[PATH], 9.0, 30.0);
    story.trouble(Trouble::Grants, &[PATH], 60.0, 70.0);
    // 61 seconds, then 76 and 40 until it is asked again.
    story.passes(180.0 + 24.0);
    assert_eq!(story.rules(), []);
    story.passes(190.0 + 24.0);
    assert_eq!(story.rules(), [Rule::Late]);
}

#[test]
fn another_leader_does_not_wait_for_what_the_one_before_waited_for() {
    let mut story = moved_on();
    story.trouble(Trouble::Grants, &[PATH], 9.0, 100.0);
    story.passes(160.0);
    assert_eq!(story.rules(), []);
    story.history.terms.push(at(110.0));
    assert_eq!(story.rules(), [Rule::Late]);
}

#[test]
fn a_status_that_says_for_too_long_what_is_wrong_is_found() {
    let back_at = |reason: &str, second: f64| {
        let mut story = synced();
        story.okms(10.0, What::State { version: 1, state: VersionState::Deactivated });
        story.gone(11.0, "db");
        story.said(11.1, "False", reason, 1);
        story.okms(20.0, What::State { version: 1, state: VersionState::Active });
        // That there is a newer version does not make it any younger.
        story.okms(22.0, What::Put { version: 2, data: Arc::new(content("two")) });
        story.target(second, "db", 2, 22.0, &content("two"));
        story.synced(second + 0.1, 2);
        story
    };
    assert_eq!(back_at("VersionDeactivated", 40.0).rules(), []);
    assert_eq!(back_at("VersionDeactivated", 46.0).rules(), [Rule::Late]);
    assert_eq!(back_at("TargetNotOwned", 46.0).rules(), [], "which is another matter");
    let mut story = back_at("Forbidden", 60.0);
    story.trouble(Trouble::Grants, &["team/p01"], 5.0, 60.0);
    assert_eq!(story.rules(), [Rule::Late]);
    story.trouble(Trouble::Grants, &[PATH], 5.0, 15.0);
    assert_eq!(story.rules(), []);
}

#[test]
fn what_was_missing_is_asked_for_more_and_more_seldom() {
    let found_at = |second: f64| {
        let mut story = synced();
        story.okms(10.0, What::Delete);
        story.gone(30.0, "db");
        story.said(30.1, "False", "SecretDeleted", 1);
        story.okms(50.0, What::Put { version: 1, data: Arc::new(content("two")) });
        story.target(second, "db", 1, 50.0, &content("two"));
        story.synced(second + 0.1, 1);
        story.rules()
    };
    // 40 seconds, then 50 and 40 until it is asked again; then two intervals and a little.
    assert_eq!(found_at(50.0 + 89.0 + 24.0), []);
    assert_eq!(found_at(50.0 + 92.0 + 24.0), [Rule::Late]);
}

/// As in seed 101, where a path of three was made again more than a dozen times.
#[test]
fn what_is_said_of_a_secret_that_was_made_again_and_again_is_understood() {
    let mut story = Story::new(spec());
    let mut made = 1.0;
    for again in 0..70 {
        made = 2.0 + f64::from(again) / 10.0;
        story.okms(made - 0.05, What::Delete);
        story.okms(made, What::Put { version: 1, data: Arc::new(content(&again.to_string())) });
    }
    story.target(10.0, "db", 1, made, &content("69"));
    story.synced(10.1, 1);
    story.passes(40.0);
    assert_eq!(story.rules(), []);
    let version = story.target(41.0, "db", 1, made, &content("by hand"));
    story.history.own_writes.insert(version);
    story.history.ended = Some(at(80.0));
    assert_eq!(story.rules(), [Rule::FalseReady]);
}
