//! Attempts on Secrets.

use serde_json::{Value, json};

use super::{
    Expected::{self, Denied, Done},
    Line, lines,
    scene::{ALLOW, MANAGED, OTHER_SHARE, OWNER, SHARE, Scene},
};
use crate::guard::attempt::Attempt;

const LACKS_MARKS: Expected = Denied("secrets", "lacks them");
const NOT_OURS: Expected = Denied("secrets", "belongs to an OkmsSecret");
const WRONG_TYPE: Expected = Denied("secrets", "means something to Kubernetes or Helm");
const CONTROLLED: Expected = Denied("secrets", "another controller owns");
const UNMARKED: Expected = Denied("secrets", "marks it so");
const SELF_CONSENT: Expected = Denied("secrets", "does not give itself consent");
const DEPENDS: Expected = Denied("secrets", "depend on nothing but");
const ONE_BY_ONE: Expected = Denied("secrets", "one by one");

pub(super) fn creations(scene: &Scene) -> Vec<Line> {
    let with = |changes: Value| scene.create(&changes);
    let meta = |changes: Value| scene.create(&json!({"metadata": changes}));
    let typed = |type_: &str| scene.create(&json!({"type": type_}));
    let referring = |reference: Value| scene.create(&json!({"metadata": {"ownerReferences": [reference]}}));
    let unlike = |from: &Value, field: &str, value: Value| {
        let mut reference = from.clone();
        reference[field] = value;
        referring(reference)
    };
    let account = json!({"annotations": {"kubernetes.io/service-account.name": "default"}});
    let token = json!({"type": "kubernetes.io/service-account-token", "metadata": account});
    let user = json!({"type": "kubernetes.io/basic-auth", "stringData": {"username": "x"}});
    [
        lines(
            Done,
            [
                ("a target", with(json!({}))),
                ("an orphan", meta(json!({"ownerReferences": null}))),
                ("a target that is put back with the consent on it", meta(json!({"annotations": {ALLOW: "db"}}))),
                ("a target of a type of somebody's own", typed("example.com/api-key")),
                ("a target of a type that Kubernetes has for people", with(user)),
                ("a target under a name that the server makes", meta(json!({"name": null, "generateName": "new-"}))),
            ],
        ),
        lines(
            LACKS_MARKS,
            [
                ("a Secret without the label", meta(json!({"labels": null}))),
                ("a Secret with another value of the label", meta(json!({"labels": {MANAGED: "yes"}}))),
                ("a Secret without an owner", meta(json!({"annotations": null, "ownerReferences": null}))),
                (
                    "a Secret whose owner has no name",
                    meta(json!({"annotations": {OWNER: ""}, "ownerReferences": null})),
                ),
            ],
        ),
        lines(
            WRONG_TYPE,
            [
                ("a token of a ServiceAccount", with(token)),
                ("a bootstrap token", typed("bootstrap.kubernetes.io/token")),
                ("a release of Helm", typed("helm.sh/release.v1")),
                ("a type of a Kubernetes yet to come", typed("new.kubernetes.io/thing")),
            ],
        ),
        lines(
            DEPENDS,
            [
                ("a target that another controller owns", referring(scene.boss.clone())),
                ("a target that depends on something else", unlike(&scene.boss, "controller", json!(false))),
                ("a target of another OkmsSecret than it says", unlike(&scene.db, "name", json!("other"))),
                ("a target of another kind of that group", unlike(&scene.db, "kind", json!("Other"))),
                (
                    "a target of that kind of another group",
                    unlike(&scene.db, "apiVersion", json!("okms-operator.io.x/v1")),
                ),
            ],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(super) fn changes(scene: &Scene) -> Vec<Line> {
    let send = |name: &str, patch: Value| Attempt::patch(scene.secret(name), patch);
    let meta = |name: &str, metadata: Value| send(name, json!({"metadata": metadata}));
    let data = |name: &str, metadata: Value| send(name, json!({"metadata": metadata, "data": {"v": "eg=="}}));
    let out = |name: &str, metadata: Value| send(name, json!({"metadata": metadata, "data": {"v": null}}));
    let annotate = |key: &str, value: Value| json!({"annotations": {key: value}});
    let label = || json!({"labels": {MANAGED: "true"}});
    let of = |name: &str| json!({"labels": {MANAGED: "true"}, "annotations": {OWNER: name}});
    let owned = || json!({"labels": {MANAGED: "true"}, "annotations": {OWNER: "db"}, "ownerReferences": [scene.db]});
    let other_owned =
        json!({"labels": {MANAGED: "true"}, "annotations": {OWNER: "other"}, "ownerReferences": [scene.db]});
    let share = |key: &str| json!({"labels": {MANAGED: "true"}, "annotations": {key: "{}"}});
    let unshared = || json!({"labels": null, "annotations": {SHARE: null}});
    let free = || json!({"labels": null, "annotations": {OWNER: null}, "ownerReferences": null});
    let free_for_db = json!({"labels": null, "annotations": {OWNER: null, ALLOW: "db"}, "ownerReferences": null});
    [
        lines(
            Done,
            [
                ("new data for a target", data("owned", json!({}))),
                ("new data for an orphan", data("orphan", json!({}))),
                ("the label where somebody took it off", data("unlabelled", of("db"))),
                ("the annotation where somebody took it off", data("stripped", of("db"))),
                ("a Secret is adopted by whom it allows", data("allowing", owned())),
                ("keys are merged into what allows it", data("allowing", share(SHARE))),
                ("keys of another are merged too", data("merged", share("merged.okms-operator.io/uid-3"))),
                ("merged keys are taken out", out("merged", annotate(SHARE, json!(null)))),
                ("merged keys are taken out of what allows no more", out("unforgiving", unshared())),
                ("merged keys are taken out of what a controller took", out("taken-merged", unshared())),
                ("an orphan is set free", meta("orphan", free())),
                ("a target is set free", meta("owned", free())),
                ("a target of a megabyte is set free", meta("big", free())),
            ],
        ),
        lines(
            NOT_OURS,
            [
                ("new data for a Secret of somebody", data("theirs", json!({}))),
                ("a Secret of somebody is made a target", meta("theirs", of("db"))),
                ("a Secret of somebody is labelled", meta("theirs", label())),
                ("a Secret of somebody is made to consent", meta("theirs", annotate(ALLOW, json!("db")))),
                ("new data for what has only the label", data("labelled", json!({}))),
                ("what has only the label is made a target", data("labelled", of("db"))),
                ("merged keys change in what allows no more", data("unforgiving", json!({}))),
                ("other keys are merged into what allows no more", data("unforgiving", share(OTHER_SHARE))),
                ("another says that it merges into that", meta("unforgiving", share(OTHER_SHARE))),
                ("other keys where a controller took it", data("taken-merged", share(OTHER_SHARE))),
            ],
        ),
        lines(
            UNMARKED,
            [
                ("new data for what allows it, without a mark", data("allowing", json!({}))),
                ("new data for what allows it, with the label only", data("allowing", label())),
                ("adopted by another than it allows", data("allowing", of("third"))),
                ("adopted without the label", data("allowing", annotate(OWNER, json!("db")))),
                ("merged into without the label", data("allowing", annotate(SHARE, json!("{}")))),
                ("a target loses its label", meta("owned", json!({"labels": null}))),
                ("a target is given to another", meta("orphan", of("other"))),
                ("a stripped target is given to another", meta("stripped", of("other"))),
                ("an orphan is set free with other data", data("orphan", free())),
                ("a target is set free but for its reference", meta("owned", annotate(OWNER, json!(null)))),
            ],
        ),
        lines(
            SELF_CONSENT,
            [
                ("a target is made to consent", meta("owned", annotate(ALLOW, json!("db")))),
                ("an orphan is made to consent to another", meta("orphan", annotate(ALLOW, json!("db,other")))),
                ("what is set free is made to consent", meta("owned", free_for_db)),
            ],
        ),
        lines(
            CONTROLLED,
            [
                ("keys are merged into what a controller owns", data("controlled", share(SHARE))),
                ("what a controller owns is adopted", data("controlled", of("db"))),
                ("new data for a target that a controller took", data("taken", json!({}))),
            ],
        ),
        lines(
            DEPENDS,
            [
                ("a target is given to a controller", meta("orphan", json!({"ownerReferences": [scene.boss]}))),
                ("adopted by one, to depend on another", meta("allowing", other_owned)),
            ],
        ),
        lines(WRONG_TYPE, [("new data for a release of Helm", data("release", json!({})))]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(super) fn deletions(scene: &Scene) -> Vec<Line> {
    let one = |name: &str| Attempt::delete(scene.secret(name));
    let all = |selector: &str| Attempt::delete(format!("{}?labelSelector={selector}", scene.secrets()));
    [
        lines(
            Done,
            [
                ("a target is deleted", one("owned")),
                ("an orphan is deleted", one("orphan")),
                ("a target without its label is deleted", one("unlabelled")),
                ("a target without its annotation is deleted", one("stripped")),
            ],
        ),
        lines(
            NOT_OURS,
            [
                ("a Secret of somebody is deleted", one("theirs")),
                ("what has only the label is deleted", one("labelled")),
                ("what allows to be adopted is deleted", one("allowing")),
                ("what keys were merged into is deleted", one("merged")),
            ],
        ),
        lines(CONTROLLED, [("what a controller took is deleted", one("taken"))]),
        lines(WRONG_TYPE, [("a release of Helm is deleted", one("release"))]),
        lines(
            ONE_BY_ONE,
            [("all Secrets are deleted", all("")), ("all targets are deleted", all("okms-operator.io/managed=true"))],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
