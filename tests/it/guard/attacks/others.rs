//! Attempts on anything but Secrets.

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use super::{
    Expected::{self, Denied, Done, NotSeen},
    Line, lines,
    scene::Scene,
};
use crate::guard::{Installation, attempt::Attempt};

const LISTED: Expected = Denied("writes", "and nothing else");

const OKMS: &str = "/apis/okms-operator.io/v1alpha1";
const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/okmssecrets.okms-operator.io";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1";

pub(super) fn all(scene: &Scene, installation: &Installation) -> Vec<Line> {
    [
        own(scene, installation),
        beside(scene, installation),
        rights(scene, installation),
        workloads(scene),
        cluster(scene),
    ]
    .into_iter()
    .flatten()
    .chain(not_seen(scene, installation))
    .collect()
}

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn touched() -> Value {
    json!({"metadata": {"annotations": {"a": "b"}}})
}

/// What it writes, beside Secrets.
fn own(scene: &Scene, installation: &Installation) -> Vec<Line> {
    let (namespace, own) = (&scene.namespace, &installation.namespace);
    let lease = Attempt::create(leases(own), named(&installation.name));
    let event = json!({"metadata": {"name": "x"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Sync",
        "type": "Normal", "reason": "Created", "reportingController": "okms-operator", "reportingInstance": "x",
        "regarding": {"kind": "Secret", "namespace": namespace, "name": "x"}});
    let events = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let (status, store) = (json!({"status": {"summary": "x"}}), json!({"status": {"okmsId": "x"}}));
    let db = format!("{OKMS}/namespaces/{namespace}/okmssecrets/db/status");
    lines(
        Done,
        [
            ("the status of an OkmsSecret", Attempt::patch(db, status)),
            ("the status of a store", Attempt::patch(format!("{OKMS}/clusterokmsstores/{namespace}/status"), store)),
            ("an event", Attempt::create(events, event)),
            ("its lease", lease),
        ],
    )
}

fn leases(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

/// What is near to that.
fn beside(scene: &Scene, installation: &Installation) -> Vec<Line> {
    let (namespace, own) = (&scene.namespace, &installation.namespace);
    let event = json!({"metadata": {"name": "x"}, "involvedObject": {"namespace": namespace}});
    let db = format!("{OKMS}/namespaces/{namespace}/okmssecrets/db");
    let store = format!("{OKMS}/clusterokmsstores/{namespace}");
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    lines(
        LISTED,
        [
            ("another lease of its own namespace", Attempt::create(leases(own), named("x"))),
            ("a lease of its name elsewhere", Attempt::create(leases("default"), named(&installation.name))),
            ("an event of the old kind", Attempt::create(format!("/api/v1/namespaces/{namespace}/events"), event)),
            ("the spec of an OkmsSecret", Attempt::patch(&db, json!({"spec": {"path": "other"}}))),
            ("an OkmsSecret goes", Attempt::delete(&db)),
            ("the access rules of a store", Attempt::patch(&store, json!({"spec": {"access": []}}))),
            ("a store goes", Attempt::delete(&store)),
            ("a ConfigMap", Attempt::create(&maps, named("x"))),
            ("a ConfigMap that is there", Attempt::patch(format!("{maps}/boss"), touched())),
            ("all ConfigMaps go", Attempt::delete(maps)),
        ],
    )
}

/// What would give it more rights, or another name.
fn rights(scene: &Scene, installation: &Installation) -> Vec<Line> {
    let (name, own) = (&installation.name, &installation.namespace);
    let account = json!([{"kind": "ServiceAccount", "name": name, "namespace": own}]);
    let binding = |kind: &str| {
        json!({"metadata": {"name": "x"}, "subjects": account,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "x"}})
    };
    let all = |rest: &str| format!("/apis/rbac.authorization.k8s.io/v1/{rest}");
    let here = |rest: &str| all(&format!("namespaces/{}/{rest}", scene.namespace));
    let accounts = format!("/api/v1/namespaces/{own}/serviceaccounts");
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let spec = json!({"request": certificate_request(), "signerName": "example.com/x", "usages": ["client auth"]});
    let no_rules = json!({"rules": []});
    lines(
        LISTED,
        [
            ("a role", Attempt::create(here("roles"), named("x"))),
            ("a role for itself", Attempt::create(here("rolebindings"), binding("Role"))),
            ("a role of the cluster", Attempt::create(all("clusterroles"), named("x"))),
            ("a role of the cluster for itself", Attempt::create(all("clusterrolebindings"), binding("ClusterRole"))),
            ("its own role", Attempt::patch(all(&format!("clusterroles/{name}")), no_rules)),
            ("its own binding", Attempt::patch(all(&format!("clusterrolebindings/{name}")), touched())),
            ("a ServiceAccount", Attempt::create(&accounts, named("x"))),
            (
                "a token of its own",
                Attempt::create(format!("{accounts}/{name}/token"), json!({"spec": {"audiences": []}})),
            ),
            (
                "a certificate to log in with",
                Attempt::create(requests, json!({"metadata": {"name": "x"}, "spec": spec})),
            ),
        ],
    )
}

/// What would run something.
fn workloads(scene: &Scene) -> Vec<Line> {
    let here = |group: &str, rest: &str| format!("/{group}/namespaces/{}/{rest}", scene.namespace);
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]});
    let pod = json!({"metadata": {"name": "x", "labels": {"a": "x"}}, "spec": spec});
    let job = json!({"metadata": {"name": "x"}, "spec": {"template": pod}});
    let mut lasting =
        json!({"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"a": "x"}}, "template": pod}});
    lasting["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    lines(
        LISTED,
        [
            ("a pod", Attempt::create(here("api/v1", "pods"), pod)),
            ("a command in a pod", Attempt::connect(here("api/v1", "pods/x/exec?command=id&stdout=true"))),
            ("a port of a pod", Attempt::connect(here("api/v1", "pods/x/portforward"))),
            ("the way through a service", Attempt::connect(here("api/v1", "services/x/proxy"))),
            ("a Deployment", Attempt::create(here("apis/apps/v1", "deployments"), lasting.clone())),
            ("a DaemonSet", Attempt::create(here("apis/apps/v1", "daemonsets"), lasting)),
            ("a Job", Attempt::create(here("apis/batch/v1", "jobs"), job)),
        ],
    )
}

/// What would change the cluster.
fn cluster(scene: &Scene) -> Vec<Line> {
    let namespace = format!("/api/v1/namespaces/{}", scene.namespace);
    let hooks =
        |kind: &str| Attempt::create(format!("{POLICIES}/{kind}webhookconfigurations"), named(&scene.namespace));
    lines(
        LISTED,
        [
            ("a namespace", Attempt::create("/api/v1/namespaces", named("x"))),
            ("a label of a namespace", Attempt::patch(&namespace, touched())),
            ("a namespace goes", Attempt::delete(namespace)),
            ("a CRD", Attempt::patch(CRD, touched())),
            ("a CRD goes", Attempt::delete(CRD)),
            ("a webhook that changes", hooks("mutating")),
            ("a webhook that refuses", hooks("validating")),
        ],
    )
}

/// What the API server asks no policy about, so that no role may grant it.
fn not_seen(scene: &Scene, installation: &Installation) -> Vec<Line> {
    let own = |kind: &str| Attempt::delete(format!("{POLICIES}/{kind}/{}-writes", installation.name));
    let map = Attempt::create(format!("/api/v1/namespaces/{}/configmaps", scene.namespace), named("x"));
    lines(
        NotSeen,
        [
            ("its own policy", own("validatingadmissionpolicies")),
            ("the binding of its own policy", own("validatingadmissionpolicybindings")),
            ("a ConfigMap in the name of another", map.by("somebody", &["system:masters"])),
        ],
    )
}

/// One that the API server takes for one.
fn certificate_request() -> String {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    BASE64_STANDARD.encode(request.pem().unwrap())
}
