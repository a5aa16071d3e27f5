//! What must hold once the noise has ended.

use super::*;

#[test]
fn what_did_not_converge_is_found() {
    assert_eq!(synced().rules_of_the_end(), []);
    assert_eq!(moved_on().rules_of_the_end(), [Rule::NotConverged]);
    assert_eq!(Story::new(spec()).rules_of_the_end(), [Rule::NotConverged]);
    let mut story = synced();
    story.okms(10.0, What::State { version: 1, state: VersionState::Deactivated });
    story.said(11.0, "False", "VersionDeactivated", 1);
    assert_eq!(story.rules_of_the_end(), [Rule::NotConverged], "it says so, and the Secret is there");
    story.gone(11.1, "db");
    assert_eq!(story.rules_of_the_end(), []);
}

#[test]
fn what_is_written_at_rest_is_found() {
    let mut story = synced();
    assert!(end::judge_rest(&story.history, at(3.0)).violations.is_empty());
    story.synced(4.0, 1);
    assert_eq!(end::judge_rest(&story.history, at(3.0)).violations.len(), 1);
}

#[test]
fn a_check_that_was_asked_for_and_not_made_is_found() {
    let mut story = synced();
    let mut object = story.history.present().object(Kind::OkmsSecret, &key("db")).unwrap().clone();
    object["metadata"]["annotations"] = json!({"okms-operator.io/refresh": "now"});
    object["status"]["lastHandledRefresh"] = json!("before");
    story.change(3.0, Kind::OkmsSecret, key("db"), UID, Some(object.clone()));
    assert_eq!(story.rules_of_the_end(), [Rule::NotConverged]);
    object["status"]["lastHandledRefresh"] = json!("now");
    story.change(4.0, Kind::OkmsSecret, key("db"), UID, Some(object));
    assert_eq!(story.rules_of_the_end(), []);
}
