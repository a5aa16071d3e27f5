//! What the operator's `ServiceAccount` can do, tried with its own token: first with the roles of the chart, then after somebody made it an
//! administrator of the cluster by mistake, when only the policies are left.

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde_json::{Value, json};

use super::{ALL_NAMESPACES, Installation, attempt::Attempt, installed};
use crate::{
    cluster::{self, kubectl},
    world::{World, eventually},
};

/// What becomes of an attempt of an operator that is an administrator of the cluster.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Done,
    /// By this policy, in words with these among them.
    Denied(&'static str, &'static str),
    /// Policies are not asked: only roles keep it from that.
    NotSeen,
}

use Expected::{Denied, Done, NotSeen};

type Line = (&'static str, Attempt, Expected);

const LISTED: Expected = Denied("writes", "and nothing else");
const LACKS_MARKS: Expected = Denied("secrets", "lacks them");
const NOT_OURS: Expected = Denied("secrets", "belongs to an OkmsSecret");
const WRONG_TYPE: Expected = Denied("secrets", "means something to Kubernetes or Helm");
const CONTROLLED: Expected = Denied("secrets", "another controller owns");
const UNMARKED: Expected = Denied("secrets", "marks it so");
const SELF_CONSENT: Expected = Denied("secrets", "does not give itself consent");
const DEPENDS: Expected = Denied("secrets", "depend on nothing but");
const ONE_BY_ONE: Expected = Denied("secrets", "one by one");

const OWNER: &str = "okms-operator.io/owner";
const ALLOW: &str = "okms-operator.io/allow";
const SHARE: &str = "merged.okms-operator.io/uid-1";
const OTHER_SHARE: &str = "merged.okms-operator.io/uid-2";

/// Where the attempts are made, and what they are made on.
struct Scene {
    namespace: String,
    /// References to an `OkmsSecret` `db`, and to a ConfigMap `boss`, as the controller.
    db: Value,
    boss: Value,
}

impl Scene {
    async fn set(world: &World) -> Self {
        let (client, namespace) = (&world.client, world.name.clone());
        let db = world.apply("db", json!({"path": "db"})).await.uid().unwrap();
        let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(client.clone(), &namespace);
        let boss = serde_json::from_value(json!({"metadata": {"name": "boss"}})).unwrap();
        let boss = maps.create(&PostParams::default(), &boss).await.unwrap().uid().unwrap();
        let reference = |version: &str, kind: &str, name: &str, uid: &str| json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true});
        let scene = Self {
            db: reference("okms-operator.io/v1alpha1", "OkmsSecret", "db", &db),
            boss: reference("v1", "ConfigMap", "boss", &boss),
            namespace,
        };
        let managed = json!({"okms-operator.io/managed": "true"});
        let big = "x".repeat(1_000_000);
        for (name, metadata, type_, value) in [
            ("theirs", json!({}), "Opaque", "x"),
            ("labelled", json!({"labels": managed}), "Opaque", "x"),
            (
                "owned",
                json!({"labels": managed, "annotations": {OWNER: "db"}, "ownerReferences": [scene.db]}),
                "Opaque",
                "x",
            ),
            ("orphan", json!({"labels": managed, "annotations": {OWNER: "db", ALLOW: "db"}}), "Opaque", "x"),
            ("unlabelled", json!({"annotations": {OWNER: "db"}}), "Opaque", "x"),
            ("stripped", json!({"ownerReferences": [scene.db]}), "Opaque", "x"),
            ("big", json!({"labels": managed, "annotations": {OWNER: "db"}}), "Opaque", &big),
            ("allowing", json!({"annotations": {ALLOW: "other, db"}}), "Opaque", "x"),
            (
                "merged",
                json!({"labels": managed, "annotations": {ALLOW: "db", SHARE: "{}", OTHER_SHARE: "{}"}}),
                "Opaque",
                "x",
            ),
            ("forbidding", json!({"labels": managed, "annotations": {SHARE: "{}"}}), "Opaque", "x"),
            ("controlled", json!({"annotations": {ALLOW: "db"}, "ownerReferences": [scene.boss]}), "Opaque", "x"),
            (
                "taken",
                json!({"labels": managed, "annotations": {OWNER: "db"}, "ownerReferences": [scene.boss]}),
                "Opaque",
                "x",
            ),
            (
                "taken-merged",
                json!({"labels": managed, "annotations": {SHARE: "{}"}, "ownerReferences": [scene.boss]}),
                "Opaque",
                "x",
            ),
            (
                "release",
                json!({"labels": managed, "annotations": {OWNER: "db", ALLOW: "db"}}),
                "helm.sh/release.v1",
                "x",
            ),
        ] {
            let mut metadata = metadata;
            metadata["name"] = json!(name);
            let secret = json!({"metadata": metadata, "type": type_, "stringData": {"v": value, "more": "y"}});
            let secret: Secret = serde_json::from_value(secret).unwrap();
            world.secrets().create(&PostParams::default(), &secret).await.unwrap();
        }
        scene
    }

    fn secrets(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.namespace)
    }

    fn secret(&self, name: &str) -> String {
        format!("{}/{name}", self.secrets())
    }

    /// A new target, with these changes.
    fn create(&self, changes: &Value) -> Attempt {
        let mut target = json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": {"v": "x"},
            "metadata": {
                "name": "new", "labels": {"okms-operator.io/managed": "true"}, "annotations": {OWNER: "db"},
                "ownerReferences": [self.db],
            },
        });
        json_patch(&mut target, changes);
        Attempt::create(self.secrets(), target)
    }

    /// A change of a Secret: of its labels, annotations or references, or else of itself.
    fn patch(&self, name: &str, metadata: Value, data: Value) -> Attempt {
        let mut patch = json!({"metadata": metadata});
        if !data.is_null() {
            patch["data"] = data;
        }
        Attempt::patch(self.secret(name), patch)
    }

    fn creations(&self) -> Vec<Line> {
        let with = |changes: Value| self.create(&changes);
        let typed = |type_: &str| self.create(&json!({"type": type_}));
        let referring = |reference: &Value| self.create(&json!({"metadata": {"ownerReferences": [reference]}}));
        let pair = json!({"type": "kubernetes.io/basic-auth", "stringData": {"username": "x"}});
        let token = json!({"type": "kubernetes.io/service-account-token", "stringData": null,
            "metadata": {"annotations": {"kubernetes.io/service-account.name": "default"}}});
        let mut other = self.db.clone();
        other["name"] = json!("other");
        let mut alike = self.db.clone();
        alike["apiVersion"] = json!("okms-operator.io.example.com/v1");
        let mut loose = self.boss.clone();
        loose["controller"] = json!(false);
        vec![
            ("a target", with(json!({})), Done),
            ("an orphan", with(json!({"metadata": {"ownerReferences": null}})), Done),
            ("a target of a type of somebody's own", typed("example.com/api-key"), Done),
            ("a target of a type that Kubernetes has for people", with(pair), Done),
            (
                "a target under a name that the server makes",
                with(json!({"metadata": {"name": null, "generateName": "new-"}})),
                Done,
            ),
            ("a Secret without the label", with(json!({"metadata": {"labels": null}})), LACKS_MARKS),
            (
                "with another value of the label",
                with(json!({"metadata": {"labels": {"okms-operator.io/managed": "yes"}}})),
                LACKS_MARKS,
            ),
            (
                "without an owner",
                with(json!({"metadata": {"annotations": null, "ownerReferences": null}})),
                LACKS_MARKS,
            ),
            (
                "with an owner without a name",
                with(json!({"metadata": {"annotations": {OWNER: ""}, "ownerReferences": null}})),
                LACKS_MARKS,
            ),
            ("a token of a ServiceAccount", with(token), WRONG_TYPE),
            ("a bootstrap token", typed("bootstrap.kubernetes.io/token"), WRONG_TYPE),
            ("a release of Helm", typed("helm.sh/release.v1"), WRONG_TYPE),
            ("a type of a Kubernetes yet to come", typed("new.kubernetes.io/thing"), WRONG_TYPE),
            ("a target that another controller owns", referring(&self.boss), DEPENDS),
            ("a target that depends on something else", referring(&loose), DEPENDS),
            ("a target of another OkmsSecret than it says", referring(&other), DEPENDS),
            ("a target of a kind of that name in another group", referring(&alike), DEPENDS),
        ]
    }

    fn changes(&self) -> Vec<Line> {
        let patch = |name: &str, metadata: Value| self.patch(name, metadata, Value::Null);
        let data = |name: &str, metadata: Value| self.patch(name, metadata, json!({"v": "eg=="}));
        let take_out = || json!({"v": null});
        let marks =
            |owner: &str| json!({"labels": {"okms-operator.io/managed": "true"}, "annotations": {OWNER: owner}});
        let share = |name: &str| json!({"labels": {"okms-operator.io/managed": "true"}, "annotations": {name: "{}"}});
        let freed = || json!({"labels": null, "annotations": {OWNER: null}, "ownerReferences": null});
        let mut adopted = marks("db");
        adopted["ownerReferences"] = json!([self.db]);
        let mut both = self.db.clone();
        both["controller"] = json!(false);
        vec![
            ("new data for a target", data("owned", json!({})), Done),
            ("new data for an orphan", data("orphan", json!({})), Done),
            ("the label where somebody took it off", data("unlabelled", marks("db")), Done),
            ("the annotation where somebody took it off", data("stripped", marks("db")), Done),
            ("a Secret is adopted by whom it allows", data("allowing", adopted), Done),
            ("keys are merged into what allows it", data("allowing", share(SHARE)), Done),
            ("keys of another are merged too", data("merged", share("merged.okms-operator.io/uid-3")), Done),
            (
                "merged keys are taken out",
                self.patch("merged", json!({"annotations": {SHARE: null}}), take_out()),
                Done,
            ),
            (
                "merged keys are taken out without consent",
                self.patch("forbidding", json!({"labels": null, "annotations": {SHARE: null}}), take_out()),
                Done,
            ),
            (
                "merged keys are taken out of what a controller took",
                self.patch("taken-merged", json!({"labels": null, "annotations": {SHARE: null}}), take_out()),
                Done,
            ),
            ("an orphan is set free", patch("orphan", freed()), Done),
            ("a target is set free", patch("owned", freed()), Done),
            ("a target of a megabyte is set free", patch("big", freed()), Done),
            ("new data for a Secret of somebody", data("theirs", json!({})), NOT_OURS),
            ("a Secret of somebody is marked", patch("theirs", marks("db")), NOT_OURS),
            (
                "a Secret of somebody is labelled",
                patch("theirs", json!({"labels": {"okms-operator.io/managed": "true"}})),
                NOT_OURS,
            ),
            ("new data for what has only the label", data("labelled", json!({})), NOT_OURS),
            ("merged keys change without consent", data("forbidding", json!({})), NOT_OURS),
            ("other keys are merged without consent", data("forbidding", share(OTHER_SHARE)), NOT_OURS),
            ("new data for what allows it, without a mark", data("allowing", json!({})), UNMARKED),
            ("adopted by another than it allows", data("allowing", marks("third")), UNMARKED),
            ("a target loses its label", patch("owned", json!({"labels": null})), UNMARKED),
            ("a target is given to another", patch("orphan", marks("other")), UNMARKED),
            ("a stripped target is given to another", patch("stripped", marks("other")), UNMARKED),
            ("set free with other data", data("orphan", freed()), UNMARKED),
            ("set free with its controller", patch("owned", json!({"annotations": {OWNER: null}})), UNMARKED),
            ("consent on a Secret of somebody", patch("theirs", json!({"annotations": {ALLOW: "db"}})), NOT_OURS),
            ("consent on a target", patch("owned", json!({"annotations": {ALLOW: "db"}})), SELF_CONSENT),
            ("consent for another", patch("orphan", json!({"annotations": {ALLOW: "db,other"}})), SELF_CONSENT),
            (
                "consent on what is set free",
                patch(
                    "owned",
                    json!({"labels": null, "annotations": {OWNER: null, ALLOW: "db"}, "ownerReferences": null}),
                ),
                SELF_CONSENT,
            ),
            ("keys are merged into what a controller owns", data("controlled", share(SHARE)), CONTROLLED),
            ("what a controller owns is adopted", data("controlled", marks("db")), CONTROLLED),
            ("new data for a target that a controller took", data("taken", json!({})), CONTROLLED),
            ("a target is given to a controller", patch("orphan", json!({"ownerReferences": [self.boss]})), DEPENDS),
            (
                "a target depends on an OkmsSecret beside its own",
                patch("allowing", {
                    let mut metadata = marks("other");
                    metadata["ownerReferences"] = json!([both]);
                    metadata
                }),
                DEPENDS,
            ),
            ("new data for a release of Helm", data("release", json!({})), WRONG_TYPE),
        ]
    }

    fn deletions(&self) -> Vec<Line> {
        let delete = |name: &str| Attempt::delete(self.secret(name));
        let all = |selector: &str| Attempt::delete(format!("{}?labelSelector={selector}", self.secrets()));
        vec![
            ("a target is deleted", delete("owned"), Done),
            ("an orphan is deleted", delete("orphan"), Done),
            ("a target without its label is deleted", delete("unlabelled"), Done),
            ("a target without its annotation is deleted", delete("stripped"), Done),
            ("a Secret of somebody is deleted", delete("theirs"), NOT_OURS),
            ("what has only the label is deleted", delete("labelled"), NOT_OURS),
            ("what allows to be adopted is deleted", delete("allowing"), NOT_OURS),
            ("what keys were merged into is deleted", delete("merged"), NOT_OURS),
            ("what a controller took is deleted", delete("taken"), CONTROLLED),
            ("a release of Helm is deleted", delete("release"), WRONG_TYPE),
            ("all Secrets are deleted", all(""), ONE_BY_ONE),
            ("all targets are deleted", all("okms-operator.io/managed=true"), ONE_BY_ONE),
        ]
    }

    fn others(&self, installation: &Installation) -> Vec<Line> {
        let named = |name: &str| json!({"metadata": {"name": name}});
        let here = |group: &str, rest: &str| {
            let base = if group == "v1" { "api" } else { "apis" };
            format!("/{base}/{group}/namespaces/{}/{rest}", self.namespace)
        };
        let rbac = "rbac.authorization.k8s.io/v1";
        let account =
            json!([{"kind": "ServiceAccount", "name": installation.name, "namespace": installation.namespace}]);
        let binding = |kind: &str| {
            json!({"metadata": {"name": "x"}, "subjects": account,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "x"}})
        };
        let pod = json!({"containers": [{"name": "x", "image": "x"}]});
        let template = json!({"metadata": {"labels": {"a": "x"}}, "spec": pod});
        let workload =
            json!({"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"a": "x"}}, "template": template}});
        let job = json!({"metadata": {"name": "x"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": pod["containers"]}}}});
        let lease = |namespace: &str| {
            Attempt::create(format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"), named("x"))
        };
        let event = json!({"metadata": {"name": "x"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Sync", "type": "Normal",
            "reason": "Created", "reportingController": "okms-operator", "reportingInstance": "x",
            "regarding": {"kind": "Secret", "namespace": self.namespace, "name": "x"}});
        let old_event = json!({"metadata": {"name": "x"}, "involvedObject": {"namespace": self.namespace}});
        let group = "okms-operator.io/v1alpha1";
        let db = here(group, "okmssecrets/db");
        let status = json!({"status": {"summary": "x"}});
        let touched = || json!({"metadata": {"annotations": {"a": "b"}}});
        let store = format!("/apis/{group}/clusterokmsstores/{}", self.namespace);
        let crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/okmssecrets.okms-operator.io";
        let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
        let hook = json!({"metadata": {"name": self.namespace}});
        let request = json!({"metadata": {"name": "x"}, "spec": {"request": certificate_request(), "signerName": "example.com/x", "usages": ["client auth"]}});
        let account_path = format!("/api/v1/namespaces/{}/serviceaccounts", installation.namespace);
        vec![
            ("the status of an OkmsSecret", Attempt::patch(format!("{db}/status"), status.clone()), Done),
            (
                "the status of a ClusterOkmsStore",
                Attempt::patch(format!("{store}/status"), json!({"status": {"okmsId": "x"}})),
                Done,
            ),
            ("an event", Attempt::create(here("events.k8s.io/v1", "events"), event), Done),
            ("a lease in its own namespace", lease(&installation.namespace), Done),
            ("a lease elsewhere", lease("default"), LISTED),
            ("an event of the old kind", Attempt::create(here("v1", "events"), old_event), LISTED),
            ("the spec of an OkmsSecret", Attempt::patch(&db, json!({"spec": {"path": "other"}})), LISTED),
            ("an OkmsSecret goes", Attempt::delete(&db), LISTED),
            ("the access rules of a store", Attempt::patch(&store, json!({"spec": {"access": []}})), LISTED),
            ("a store goes", Attempt::delete(&store), LISTED),
            ("a role", Attempt::create(here(rbac, "roles"), named("x")), LISTED),
            ("a role for itself", Attempt::create(here(rbac, "rolebindings"), binding("Role")), LISTED),
            ("a role for all namespaces", Attempt::create(format!("/apis/{rbac}/clusterroles"), named("x")), LISTED),
            (
                "its own role",
                Attempt::patch(format!("/apis/{rbac}/clusterroles/{}", installation.name), json!({"rules": []})),
                LISTED,
            ),
            (
                "its own binding",
                Attempt::create(format!("/apis/{rbac}/clusterrolebindings"), binding("ClusterRole")),
                LISTED,
            ),
            ("a ServiceAccount", Attempt::create(&account_path, named("x")), LISTED),
            (
                "a token",
                Attempt::create(
                    format!("{account_path}/{}/token", installation.name),
                    json!({"spec": {"audiences": []}}),
                ),
                LISTED,
            ),
            (
                "a certificate to log in with",
                Attempt::create("/apis/certificates.k8s.io/v1/certificatesigningrequests", request),
                LISTED,
            ),
            ("a pod", Attempt::create(here("v1", "pods"), json!({"metadata": {"name": "x"}, "spec": pod})), LISTED),
            ("a command in a pod", Attempt::connect(here("v1", "pods/x/exec?command=id&stdout=true")), LISTED),
            ("a port of a pod", Attempt::connect(here("v1", "pods/x/portforward")), LISTED),
            ("the way through a service", Attempt::connect(here("v1", "services/x/proxy")), LISTED),
            ("a Deployment", Attempt::create(here("apps/v1", "deployments"), workload.clone()), LISTED),
            ("a DaemonSet", Attempt::create(here("apps/v1", "daemonsets"), workload), LISTED),
            ("a Job", Attempt::create(here("batch/v1", "jobs"), job), LISTED),
            ("a ConfigMap", Attempt::create(here("v1", "configmaps"), named("x")), LISTED),
            ("all ConfigMaps go", Attempt::delete(here("v1", "configmaps")), LISTED),
            ("a namespace", Attempt::create("/api/v1/namespaces", named("x")), LISTED),
            (
                "a label of a namespace",
                Attempt::patch(format!("/api/v1/namespaces/{}", self.namespace), touched()),
                LISTED,
            ),
            ("a namespace goes", Attempt::delete(format!("/api/v1/namespaces/{}", self.namespace)), LISTED),
            ("a CRD", Attempt::patch(crd, touched()), LISTED),
            ("a CRD goes", Attempt::delete(crd), LISTED),
            // Whoever may do that has the cluster. The API server asks no policy, so no role may grant it.
            ("its own policy", Attempt::delete(format!("{policies}/{}-writes", installation.name)), NotSeen),
            (
                "a webhook",
                Attempt::create("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", hook),
                LISTED,
            ),
            (
                "a ConfigMap in the name of another",
                Attempt::create(here("v1", "configmaps"), named("x")).by("somebody", &["system:masters"]),
                NotSeen,
            ),
        ]
    }
}

/// One that the API server takes for one.
fn certificate_request() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    BASE64_STANDARD.encode(request.pem().unwrap())
}

/// As a merge patch would.
fn json_patch(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                if value.is_null() {
                    into.remove(key);
                } else {
                    json_patch(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}

async fn make_an_administrator(installation: &Installation, client: &Client, namespace: &str) {
    let (name, user) = (installation.name.clone(), format!("--user={}", installation.user()));
    let bind = move || {
        let arguments =
            ["create", "clusterrolebinding", &format!("{name}-mistake"), "--clusterrole=cluster-admin", &user];
        kubectl(cluster::shared(), &arguments, "").succeeded();
    };
    tokio::task::spawn_blocking(bind).await.unwrap();
    eventually("it is an administrator", async || {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec":
            {"resourceAttributes": {"group": "*", "resource": "*", "verb": "*", "namespace": namespace}}});
        let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header(http::header::CONTENT_TYPE, "application/json");
        let answer: Value = client.request(request.body(review.to_string().into_bytes()).unwrap()).await.unwrap();
        if answer["status"]["allowed"] == true { Ok(()) } else { Err("it is not") }
    })
    .await;
}

async fn hold(client: &Client, installation: &Installation, lines: &[Line]) {
    let mut wrong = Vec::new();
    for (what, attempt, expected) in lines {
        let outcome = attempt.make(client).await;
        let holds = match (expected, &outcome) {
            (Done | NotSeen, Ok(())) => true,
            (Denied(policy, words), Err(said)) => {
                said.contains(&format!("ValidatingAdmissionPolicy '{}-{policy}' ", installation.name))
                    && said.contains(words)
            }
            _ => false,
        };
        if !holds {
            wrong.push(format!("{what}: {outcome:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_writes_what_is_its_own_even_as_an_administrator_of_the_cluster() {
    let world = World::without_operator("attacks").await;
    world.create_store(json!({})).await;
    let scene = Scene::set(&world).await;
    let installation = installed(&world, ALL_NAMESPACES).await;
    for policy in ["writes", "secrets"] {
        installation.assert_is_sound(&world.client, policy).await;
    }
    let client = installation.client().await;
    let lines: Vec<Line> = [scene.creations(), scene.changes(), scene.deletions(), scene.others(&installation)]
        .into_iter()
        .flatten()
        .collect();

    // With the roles of the chart.
    for (what, attempt, expected) in &lines {
        if !matches!(expected, Done) {
            let outcome = attempt.make(&client).await;
            assert!(outcome.as_ref().is_err_and(|said| said.starts_with("403")), "{what}: {outcome:?}");
        }
    }

    make_an_administrator(&installation, &client, &world.name).await;
    hold(&client, &installation, &lines).await;

    // Others are not held to it: the policies ask who it is.
    for (what, attempt, expected) in &lines {
        if matches!(expected, Denied("secrets", _)) {
            assert_eq!(attempt.make(&world.client).await, Ok(()), "{what}");
        }
    }
}
