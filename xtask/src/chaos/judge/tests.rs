//! Doctored histories: the judge has to catch each lie, and to say nothing of what is true.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::chaos::{
    action::VersionState,
    history::{Change, Kind, OkmsChange, Trouble, Troubled, What},
    kubernetes::base64,
};

const NAMESPACE: &str = "chaos-a";
const PATH: &str = "team/p00";
const UID: &str = "uid-of-db";

fn at(seconds: f64) -> Timestamp {
    calm::later(Timestamp::from_second(2_000_000_000).unwrap(), Duration::from_secs_f64(seconds))
}

fn key(name: &str) -> Key {
    Key { namespace: NAMESPACE.to_owned(), name: name.to_owned() }
}

fn content(password: &str) -> Value {
    json!({"password": password})
}

/// A history that is made up.
struct Story {
    history: History,
    version: u64,
    generation: i64,
    spec: Value,
}

impl Story {
    /// A namespace, a store that shares everything with it, and `OkmsSecret` db, which reads one path.
    fn new(spec: Value) -> Self {
        let mut history = History::new("domain".to_owned());
        history.begun = at(0.0);
        history.starts.push(at(0.0));
        let mut made_up = Self { history, version: 0, generation: 1, spec };
        let cluster_wide = |name: &str| Key { namespace: String::new(), name: name.to_owned() };
        made_up.change(
            0.0,
            Kind::Namespace,
            cluster_wide(NAMESPACE),
            "ns",
            Some(json!({"metadata": {"name": NAMESPACE}})),
        );
        let shared = json!({
            "kind": "ClusterOkmsStore",
            "spec": {"refreshInterval": "2s", "access": [{"namespaces": [NAMESPACE], "paths": ["*"]}]},
        });
        made_up.change(0.0, Kind::ClusterOkmsStore, cluster_wide("default"), "store", Some(shared));
        made_up.okms(1.0, What::Put { version: 1, data: Arc::new(content("one")) });
        made_up.object(1.0, None);
        made_up
    }

    fn change(&mut self, second: f64, kind: Kind, key: Key, uid: &str, object: Option<Value>) -> u64 {
        self.version += 1;
        let change = Change {
            version: self.version,
            at: at(second),
            kind,
            key,
            uid: uid.to_owned(),
            object: object.map(Arc::new),
        };
        self.history.saw(change);
        self.version
    }

    fn okms(&mut self, second: f64, what: What) {
        self.history.okms.push(OkmsChange { from: at(second), to: at(second + 0.01), path: PATH.to_owned(), what });
    }

    /// The object, with the status of these conditions.
    fn object(&mut self, second: f64, status: Option<Value>) {
        let object = json!({
            "metadata": {"namespace": NAMESPACE, "name": "db", "uid": UID, "generation": self.generation},
            "spec": self.spec,
            "status": status.unwrap_or_else(|| json!({"observedGeneration": -1})),
        });
        self.change(second, Kind::OkmsSecret, key("db"), UID, Some(object));
    }

    fn edit(&mut self, second: f64, spec: Value) {
        self.generation += 1;
        self.spec = spec;
        self.object(second, None);
    }

    /// Ready=True with this version.
    fn synced(&mut self, second: f64, version: u32) {
        self.said(second, "True", "Synced", version);
    }

    fn said(&mut self, second: f64, status: &str, reason: &str, version: u32) {
        let ready = json!({"type": "Ready", "status": status, "reason": reason, "observedGeneration": self.generation});
        self.object(
            second,
            Some(json!({
                "observedGeneration": self.generation,
                "conditions": [ready],
                "sources": [{"path": PATH, "version": version, "state": "Active"}],
                "refreshInterval": "2s",
            })),
        );
    }

    /// The target, as the operator writes it from a version that was created at a second.
    fn target(&mut self, second: f64, name: &str, version: u32, created: f64, data: &Value) -> u64 {
        let source =
            json!([{"okmsId": "domain", "path": PATH, "version": version, "createdAt": at(created).to_string()}]);
        let secret = json!({
            "metadata": {
                "annotations": {"okms-operator.io/owner": "db", "okms-operator.io/source": source.to_string()},
                "labels": {"okms-operator.io/managed": "true"},
                "ownerReferences": [{
                    "apiVersion": "okms-operator.io/v1alpha1", "kind": "OkmsSecret", "name": "db", "uid": UID, "controller": true,
                }],
            },
            "type": "Opaque",
            "data": encoded(data),
        });
        self.change(second, Kind::Secret, key(name), &format!("uid-of-{name}"), Some(secret))
    }

    fn gone(&mut self, second: f64, name: &str) {
        self.change(second, Kind::Secret, key(name), &format!("uid-of-{name}"), None);
    }

    /// A Secret that the harness made.
    fn foreign(&mut self, second: f64, name: &str, data: &Value, allow: &str) {
        let secret = json!({"metadata": {"annotations": {"okms-operator.io/allow": allow}}, "data": encoded(data)});
        let version = self.change(second, Kind::Secret, key(name), &format!("uid-of-{name}"), Some(secret));
        self.history.own_writes.insert(version);
    }

    /// What the judge calls it.
    fn rules(&self) -> Vec<Rule> {
        let mut rules: Vec<_> = judge(&self.history).violations.iter().map(|violation| violation.rule).collect();
        rules.dedup();
        rules
    }

    fn rules_of_the_end(&self) -> Vec<Rule> {
        end::judge(&self.history, false).violations.iter().map(|violation| violation.rule).collect()
    }

    /// Trouble with these paths; with none, all of it.
    fn trouble(&mut self, trouble: Trouble, paths: &[&str], from: f64, to: f64) {
        let paths = (!paths.is_empty()).then(|| paths.iter().map(|path| (*path).to_owned()).collect());
        self.history.troubles.push(Troubled { trouble, paths, from: at(from), to: Some(at(to)) });
    }

    /// Something happens elsewhere, so that the history goes on until then.
    fn passes(&mut self, second: f64) {
        self.foreign(second, "elsewhere", &json!({"own": second.to_string()}), "");
    }
}

fn encoded(data: &Value) -> Value {
    let fields = data.as_object().into_iter().flatten();
    Value::Object(fields.map(|(key, value)| (key.clone(), base64(value.as_str().unwrap_or_default()))).collect())
}

fn spec() -> Value {
    json!({"path": PATH})
}

/// A Secret that is synced to version 1.
fn synced() -> Story {
    let mut story = Story::new(spec());
    story.target(2.0, "db", 1, 1.0, &content("one"));
    story.synced(2.1, 1);
    story
}

/// The same, with version 2 written at second 10.
fn moved_on() -> Story {
    let mut story = synced();
    story.okms(10.0, What::Put { version: 2, data: Arc::new(content("two")) });
    story
}

#[test]
fn nothing_is_said_of_what_is_right() {
    let mut story = moved_on();
    story.target(11.0, "db", 2, 10.0, &content("two"));
    story.synced(11.1, 2);
    story.passes(60.0);
    assert_eq!(story.rules(), []);
    assert_eq!(story.rules_of_the_end(), []);
    let findings = judge(&story.history);
    for rule in [Rule::WrongContent, Rule::StaleContent, Rule::WentBack, Rule::FalseReady, Rule::StaleReady, Rule::Late]
    {
        assert!(findings.checks.contains_key(&rule), "{rule}");
    }
}

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
fn a_foreign_secret_that_is_written_or_deleted_is_found() {
    let mut story = Story::new(spec());
    story.foreign(1.5, "db", &json!({"own": "x"}), "");
    story.target(2.0, "db", 1, 1.0, &content("one"));
    assert_eq!(story.rules(), [Rule::ForeignTouched]);
    let mut story = Story::new(spec());
    story.foreign(1.5, "db", &json!({"own": "x"}), "other, db");
    story.target(2.0, "db", 1, 1.0, &content("one"));
    assert_eq!(story.rules(), [], "it was given away");
    let mut story = Story::new(spec());
    story.foreign(1.5, "db", &json!({"own": "x"}), "");
    story.gone(2.0, "db");
    assert_eq!(story.rules(), [Rule::ForeignTouched]);
}

#[test]
fn a_foreign_key_beside_merged_ones_that_changes_is_found() {
    let merge = |own: &str, merged: &str, allow: &str| {
        let mut story = Story::new(json!({
            "path": PATH, "prefix": "DB_", "target": {"name": "host", "creationPolicy": "Merge"},
        }));
        story.foreign(1.5, "host", &json!({"own": "x"}), allow);
        let source = json!([{"okmsId": "domain", "path": PATH, "version": 1, "createdAt": at(1.0).to_string()}]);
        let share = json!({"owner": "db", "sources": source}).to_string();
        let annotations = json!({"okms-operator.io/allow": allow, format!("merged.okms-operator.io/{UID}"): share});
        let data = encoded(&json!({"own": own, "DB_password": merged}));
        let secret = json!({"metadata": {"annotations": annotations}, "data": data});
        story.change(2.0, Kind::Secret, key("host"), "uid-of-host", Some(secret));
        story.rules()
    };
    assert_eq!(merge("x", "one", "db"), []);
    assert_eq!(merge("y", "one", "db"), [Rule::ForeignKeyTouched]);
    assert_eq!(merge("x", "two", "db"), [Rule::WrongContent]);
    assert_eq!(merge("x", "one", "other"), [Rule::ForeignTouched]);
}

#[test]
fn a_lost_key_and_a_version_that_never_was_are_found() {
    let written = |version: u32, created: f64, data: Value| {
        let mut story = Story::new(spec());
        story.target(2.0, "db", version, created, &data);
        story.rules()
    };
    assert_eq!(written(1, 1.0, content("one")), []);
    assert_eq!(written(1, 1.0, json!({})), [Rule::WrongContent]);
    assert_eq!(written(1, 1.0, json!({"password": "one", "more": "x"})), [Rule::WrongContent]);
    assert!(written(2, 1.0, content("one")).contains(&Rule::WrongContent));
    assert!(written(1, 0.5, content("one")).contains(&Rule::WrongContent), "of another secret of this path");
}

#[test]
fn nothing_is_written_while_suspended_nor_without_access() {
    let mut story = Story::new(json!({"path": PATH, "suspend": true}));
    story.target(30.0, "db", 1, 1.0, &content("one"));
    assert_eq!(story.rules(), [Rule::WrongContent]);
    let mut story = Story::new(spec());
    let closed = json!({"kind": "ClusterOkmsStore", "spec": {"access": []}});
    story.change(
        2.0,
        Kind::ClusterOkmsStore,
        Key { namespace: String::new(), name: "default".into() },
        "store",
        Some(closed),
    );
    story.target(30.0, "db", 1, 1.0, &content("one"));
    assert_eq!(story.rules(), [Rule::WrongContent]);
}

#[test]
fn an_old_version_that_is_written_is_found_and_so_is_a_step_back() {
    let mut story = Story::new(spec());
    story.okms(10.0, What::Put { version: 2, data: Arc::new(content("two")) });
    story.target(40.0, "db", 1, 1.0, &content("one"));
    assert_eq!(story.rules(), [Rule::StaleContent]);
    let mut story = moved_on();
    story.target(11.0, "db", 2, 10.0, &content("two"));
    story.target(12.0, "db", 1, 1.0, &content("one"));
    assert_eq!(story.rules()[0], Rule::WentBack);
}

#[test]
fn a_paused_operator_is_not_blamed_for_what_it_read_before() {
    let mut story = Story::new(spec());
    story.okms(10.0, What::Put { version: 2, data: Arc::new(content("two")) });
    story.target(40.0, "db", 1, 1.0, &content("one"));
    story.trouble(Trouble::Operator, &[], 5.0, 35.0);
    assert_eq!(story.rules(), []);
}

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

#[test]
fn what_a_lagging_replica_shows_may_be_written_while_it_lags() {
    let written = |trouble: Trouble, paths: &[&str]| {
        let mut story = Story::new(spec());
        story.okms(10.0, What::Put { version: 2, data: Arc::new(content("two")) });
        story.trouble(trouble, paths, 160.0, 170.0);
        story.target(165.0, "db", 1, 1.0, &content("one"));
        story.rules()
    };
    assert_eq!(written(Trouble::Lag, &[PATH]), []);
    assert_eq!(written(Trouble::Lag, &["team/p01"]), [Rule::StaleContent]);
    assert_eq!(written(Trouble::Okms, &[PATH]), [Rule::StaleContent]);
}

#[test]
fn content_that_does_not_fit_its_type_is_found() {
    let written = |kind: &str, data: Value| {
        let mut story = Story::new(json!({"path": PATH, "target": {"type": kind}}));
        story.okms(2.0, What::Put { version: 2, data: Arc::new(data.clone()) });
        story.target(3.0, "db", 2, 2.0, &data);
        let secret = story.history.cluster.last_mut().unwrap();
        Arc::make_mut(secret.object.as_mut().unwrap())["type"] = json!(kind);
        story.rules()
    };
    let (basic, docker) = ("kubernetes.io/basic-auth", "kubernetes.io/dockerconfigjson");
    assert_eq!(written(basic, json!({"password": "x", "user": "y"})), []);
    assert_eq!(written(basic, json!({"user": "y"})), [Rule::WrongContent]);
    assert_eq!(written(docker, json!({".dockerconfigjson": "{\"auths\": {}}"})), []);
    assert_eq!(written(docker, json!({".dockerconfigjson": "{\"auths\": 1}"})), [Rule::WrongContent]);
    assert_eq!(written(docker, json!({"user": "y"})), [Rule::WrongContent]);
}

#[test]
fn a_template_that_is_filled_wrongly_is_found() {
    let written = |text: &str, made: &str| {
        let template = json!({"data": {"text": text}});
        let mut story = Story::new(json!({"path": PATH, "target": {"template": template}}));
        story.target(2.0, "db", 1, 1.0, &json!({"text": made}));
        story.rules()
    };
    assert_eq!(written("<{{ password }}>", "<one>"), []);
    assert_eq!(written("<{{ data['password'] | upper | b64encode }}>", "<T05F>"), []);
    assert_eq!(written("{{ nothing | default('none') }}", "none"), []);
    assert_eq!(written("<{{ password }}>", "<two>"), [Rule::WrongContent]);
    assert_eq!(written("<{{ nothing }}>", "<>"), [Rule::WrongContent]);
}

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
fn what_is_written_at_rest_is_found() {
    let mut story = synced();
    assert!(end::judge_rest(&story.history, at(3.0)).violations.is_empty());
    story.synced(4.0, 1);
    assert_eq!(end::judge_rest(&story.history, at(3.0)).violations.len(), 1);
}
