//! What goes: withdrawn, left behind, renamed, or for no reason.

use super::*;

#[test]
fn a_deletion_that_nothing_explains_is_found() {
    let mut story = synced();
    story.gone(20.0, "db");
    story.said(20.1, "False", "VersionDeactivated", 1);
    assert_eq!(story.rules(), [Rule::DeletedWithoutProof]);
}

#[test]
fn a_deletion_after_a_withdrawal_is_right_but_not_before_it_nor_where_it_was_to_be_retained() {
    let withdraw = |spec: Value, deactivated: f64, deleted: f64| {
        let mut story = Story::new(spec);
        story.target(2.0, "db", 1, 1.0, &content("one"));
        story.okms(deactivated, What::State { version: 1, state: VersionState::Deactivated });
        story.gone(deleted, "db");
        story.history.okms.sort_by_key(|change| change.from);
        story.rules()
    };
    assert_eq!(withdraw(spec(), 19.0, 20.0), []);
    assert_eq!(withdraw(spec(), 21.0, 20.0), [Rule::DeletedWithoutProof]);
    let retained = json!({"path": PATH, "withdrawalPolicy": "Retain"});
    assert_eq!(withdraw(retained, 19.0, 20.0), [Rule::DeletedWithoutProof]);
    let elsewhere = json!({"path": "team/p01"});
    assert!(withdraw(elsewhere, 19.0, 20.0).contains(&Rule::DeletedWithoutProof), "another path than it was made from");
}

#[test]
fn a_reactivation_long_ago_takes_the_proof_away() {
    let mut story = synced();
    story.okms(10.0, What::State { version: 1, state: VersionState::Deactivated });
    story.okms(11.0, What::State { version: 1, state: VersionState::Active });
    story.gone(40.0, "db");
    story.said(40.1, "False", "VersionDeactivated", 1);
    assert_eq!(story.rules(), [Rule::DeletedWithoutProof]);
}

#[test]
fn a_secret_that_is_gone_has_to_be_found_so_twice() {
    let deleted = |second: f64| {
        let mut story = synced();
        story.okms(20.0, What::Delete);
        story.said(21.0, "False", "WithdrawalUnconfirmed", 1);
        story.gone(second, "db");
        story.rules()
    };
    assert_eq!(deleted(25.0), [Rule::DeletedWithoutProof]);
    assert_eq!(deleted(36.0), []);
}

#[test]
fn what_an_optional_source_gave_stays_until_it_is_proven_to_be_gone() {
    const OTHER: &str = "team/p01";
    let taken_out = |policy: &str, what: What, second: f64| {
        let sources = json!([{"path": PATH, "prefix": "A_", "optional": true}, {"path": OTHER, "prefix": "B_"}]);
        let mut story = Story::new(json!({"sources": sources, "withdrawalPolicy": policy}));
        let other = What::Put { version: 1, data: Arc::new(content("other")) };
        story.history.okms.push(OkmsChange { from: at(1.0), to: at(1.01), path: OTHER.to_owned(), what: other });
        let both = [(PATH, 1, 1.0), (OTHER, 1, 1.0)];
        story.target_of(2.0, "db", &both, &json!({"A_password": "one", "B_password": "other"}));
        story.okms(20.0, what);
        story.target_of(second, "db", &both[1..], &json!({"B_password": "other"}));
        story.rules()
    };
    let deactivated = || What::State { version: 1, state: VersionState::Deactivated };
    assert_eq!(taken_out("Delete", deactivated(), 21.0), []);
    assert_eq!(taken_out("Retain", deactivated(), 21.0), [Rule::DeletedWithoutProof]);
    assert_eq!(taken_out("Delete", What::Delete, 25.0), [Rule::DeletedWithoutProof], "it was not found once");
    assert_eq!(taken_out("Delete", What::Delete, 36.0), []);
}

#[test]
fn what_an_object_leaves_is_collected_and_nothing_else() {
    let mut story = synced();
    story.change(20.0, Kind::OkmsSecret, key("db"), UID, None);
    story.gone(20.1, "db");
    assert_eq!(story.rules(), []);
    assert_eq!(story.rules_of_the_end(), []);
    let mut story = synced();
    story.change(20.0, Kind::OkmsSecret, key("db"), UID, None);
    assert_eq!(story.rules_of_the_end(), [Rule::LeftBehind]);
}

#[test]
fn a_renamed_target_goes_after_the_new_one_is_there() {
    let renamed = || {
        let mut story = synced();
        story.edit(10.0, json!({"path": PATH, "target": {"name": "other"}}));
        story
    };
    let written = |story: &mut Story, second: f64| {
        story.target(second, "other", 1, 1.0, &content("one"));
        story.synced(second + 0.1, 1);
    };
    let mut story = renamed();
    written(&mut story, 11.0);
    assert_eq!(story.rules(), []);
    assert_eq!(story.rules_of_the_end(), [Rule::LeftBehind]);
    story.gone(11.2, "db");
    assert_eq!(story.rules(), []);
    assert_eq!(story.rules_of_the_end(), []);
    let mut story = renamed();
    story.gone(11.2, "db");
    written(&mut story, 12.0);
    assert_eq!(story.rules(), [Rule::DeletedWithoutProof]);
}

#[test]
fn a_watch_that_is_behind_another_puts_nothing_out_of_order() {
    let mut story = Story::new(spec());
    let mut object = story.history.cluster.pop().unwrap();
    story.target(2.0, "db", 1, 1.0, &content("one"));
    object.at = at(20.0);
    story.history.saw(object);
    assert_eq!(story.rules(), []);
}

#[test]
fn more_withdrawals_than_a_store_allows_are_found() {
    let withdrawn = |count: usize, confirmed: bool| {
        let mut story = Story::new(json!({"path": "elsewhere"}));
        story.okms(10.0, What::State { version: 1, state: VersionState::Deactivated });
        let cluster_wide = Key { namespace: String::new(), name: "default".to_owned() };
        let annotations = if confirmed { json!({"okms-operator.io/confirm-withdrawal": "id"}) } else { json!({}) };
        let limited = json!({
            "kind": "ClusterOkmsStore",
            "metadata": {"annotations": annotations},
            "spec": {"maxWithdrawalsPerHour": 11, "access": [{"namespaces": [NAMESPACE], "paths": ["*"]}]},
        });
        story.change(10.5, Kind::ClusterOkmsStore, cluster_wide, "store", Some(limited));
        for index in 0..count {
            let (name, uid) = (format!("o{index}"), format!("uid-of-o{index}"));
            let object = json!({
                "metadata": {"namespace": NAMESPACE, "name": name, "uid": uid, "generation": 1}, "spec": spec(),
            });
            story.change(1.0, Kind::OkmsSecret, key(&name), &uid, Some(object));
            story.target(2.0, &name, 1, 1.0, &content("one"));
            let secret = story.history.cluster.last_mut().unwrap();
            let object = Arc::make_mut(secret.object.as_mut().unwrap());
            object["metadata"]["annotations"]["okms-operator.io/owner"] = json!(name);
            object["metadata"]["ownerReferences"][0]["name"] = json!(name);
            object["metadata"]["ownerReferences"][0]["uid"] = json!(uid);
        }
        for index in 0..count {
            story.gone(12.0, &format!("o{index}"));
        }
        story.rules()
    };
    assert_eq!(withdrawn(11, false), []);
    assert_eq!(withdrawn(12, false), [Rule::OverBudget]);
    assert_eq!(withdrawn(12, true), []);
}

#[test]
fn merged_keys_that_are_taken_out_without_proof_are_found() {
    let taken_out = |happens: &dyn Fn(&mut Story)| {
        let mut story = Story::new(json!({
            "path": PATH, "prefix": "DB_", "target": {"name": "host", "creationPolicy": "Merge"},
        }));
        story.foreign(1.5, "host", &json!({"own": "x"}), "db");
        let source = json!([{"okmsId": "domain", "path": PATH, "version": 1, "createdAt": at(1.0).to_string()}]);
        let share = json!({"owner": "db", "sources": source}).to_string();
        let mut secret = json!({
            "metadata": {"annotations": {"okms-operator.io/allow": "db", format!("merged.okms-operator.io/{UID}"): share}},
            "data": encoded(&json!({"own": "x", "DB_password": "one"})),
        });
        story.change(2.0, Kind::Secret, key("host"), "uid-of-host", Some(secret.clone()));
        happens(&mut story);
        secret["metadata"]["annotations"] = json!({"okms-operator.io/allow": "db"});
        secret["data"] = encoded(&json!({"own": "x"}));
        story.change(12.0, Kind::Secret, key("host"), "uid-of-host", Some(secret));
        story.rules()
    };
    assert_eq!(taken_out(&|_| {}), [Rule::DeletedWithoutProof]);
    assert_eq!(taken_out(&|story| story.edit(10.0, spec())), [], "it has another target");
    let deactivated = What::State { version: 1, state: VersionState::Deactivated };
    assert_eq!(taken_out(&|story| story.okms(10.0, deactivated.clone())), []);
}
