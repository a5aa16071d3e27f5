//! What is written, where, and by whom.

use super::*;

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

/// The `OkmsSecret` was made again, and takes over what its predecessor had merged, in whose name it writes first.
#[test]
fn keys_of_a_predecessor_are_taken_over_by_who_merges_there_and_nobody_else() {
    let merging =
        |host: &str| json!({"path": PATH, "prefix": "DB_", "target": {"name": host, "creationPolicy": "Merge"}});
    let source = || json!([{"okmsId": "domain", "path": PATH, "version": 1, "createdAt": at(1.0).to_string()}]);
    let host = |shares: &[(&str, Value)], password: &str| {
        let mut annotations = json!({"okms-operator.io/allow": "db"});
        for (uid, sources) in shares {
            let share = json!({"owner": "db", "sources": sources}).to_string();
            annotations[format!("merged.okms-operator.io/{uid}")] = share.into();
        }
        Some(json!({
            "metadata": {"annotations": annotations}, "data": encoded(&json!({"own": "x", "DB_password": password})),
        }))
    };
    let taken_over = |merges_into: &str, password: &str| {
        let mut story = Story::new(merging(merges_into));
        story.foreign(1.5, "host", &json!({"own": "x"}), "db");
        let before = json!({
            "metadata": {"namespace": NAMESPACE, "name": "db", "uid": "before", "generation": 1}, "spec": merging("host"),
        });
        story.change(1.5, Kind::OkmsSecret, key("db"), UID, None);
        story.change(1.5, Kind::OkmsSecret, key("db"), "before", Some(before));
        story.change(1.6, Kind::Secret, key("host"), "uid-of-host", host(&[("before", source())], "one"));
        story.change(1.7, Kind::OkmsSecret, key("db"), "before", None);
        story.object(1.8, None);
        let steps = [
            host(&[("before", json!([]))], password),
            host(&[("before", json!([])), (UID, source())], password),
            host(&[(UID, source())], password),
        ];
        for step in steps {
            story.change(2.0, Kind::Secret, key("host"), "uid-of-host", step);
        }
        story.rules()
    };
    assert_eq!(taken_over("host", "one"), []);
    assert!(taken_over("host", "two").contains(&Rule::WrongContent), "what was written is no rendering");
    assert!(taken_over("elsewhere", "one").contains(&Rule::WrongContent), "nobody merges into it");
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
fn an_annotation_of_somebody_else_that_goes_is_found() {
    let written = |kept: bool| {
        let mut story = moved_on();
        for (second, version, created, password) in [(9.0, 1, 1.0, "one"), (11.0, 2, 10.0, "two")] {
            let write = story.target(second, "db", version, created, &content(password));
            if version == 1 {
                story.history.own_writes.insert(write);
            }
            if version == 1 || kept {
                let secret = story.history.cluster.last_mut().unwrap();
                let metadata = &mut Arc::make_mut(secret.object.as_mut().unwrap())["metadata"];
                metadata["annotations"]["chaos.example/edit"] = json!("7");
            }
        }
        story.rules()
    };
    assert_eq!(written(true), []);
    assert_eq!(written(false), [Rule::ForeignTouched]);
}
