//! What the API server takes, refuses and shows, with the CRDs of this release: bad input is refused at once, naming the field
//! and what to do; good input stays as it was written.

use serde_json::{Value, json};

use okms_operator::api::{ClusterOkmsStore, OkmsSecret, OkmsStore};

use self::stores::{oauth2, own_store, store, whole_own_store, whole_store};
use crate::cluster::{self, Output};

mod stores;

fn kubectl(arguments: &[&str], input: &str) -> Output {
    cluster::kubectl(cluster::shared(), arguments, input)
}

fn object(kind: &str, name: &str, spec: &Value) -> String {
    json!({"apiVersion": "okms-operator.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        .to_string()
}

/// An `OkmsSecret` with these fields beside, or instead of, a good path.
fn secret(fields: Value) -> Value {
    merged(json!({"path": "prod/shop/db"}), fields)
}

fn merged(mut base: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("not an object: {fields}") };
    base.as_object_mut().unwrap().extend(fields);
    base
}

#[track_caller]
fn refused(kind: &str, spec: &Value, field: &str, remedy: &str) {
    let message = kubectl(&["create", "--dry-run=server", "-f", "-"], &object(kind, "bad", spec)).failed();
    assert!(message.contains(field) && message.contains(remedy), "{spec}\n{message}");
}

#[track_caller]
fn taken(kind: &str, spec: &Value) {
    kubectl(&["create", "--dry-run=server", "-f", "-"], &object(kind, "good", spec)).succeeded();
}

#[test]
fn a_path_that_okms_cannot_hold_is_refused() {
    let long = "a".repeat(256);
    for (path, remedy) in [
        ("", "at least 1 chars"),
        ("/prod/db", "write it like prod/shop/db"),
        ("prod/db/", "write it like prod/shop/db"),
        ("prod//db", "write it like prod/shop/db"),
        ("prod/../db", "write the full path"),
        ("./db", "write the full path"),
        ("prod/shop db", "only the characters"),
        ("prod%2Fdb", "not percent-encoded"),
        ("prod/dé", "only the characters"),
        (long.as_str(), "may not be more than 255"),
    ] {
        refused("OkmsSecret", &secret(json!({ "path": path })), "spec.path", remedy);
    }
    for path in ["a", "a..b", "prod/shop/db", "x@y=z:1_2.3-4", &long[..255]] {
        taken("OkmsSecret", &secret(json!({ "path": path })));
    }
}

#[test]
fn what_is_read_is_said_in_one_way() {
    let both = json!({"path": "a", "sources": [{"path": "a"}]});
    for spec in [json!({}), both] {
        refused("OkmsSecret", &spec, "spec", "exactly one of path");
    }
    for (field, value) in [("version", json!(7)), ("keys", json!([{"to": "a"}])), ("prefix", json!("A_"))] {
        let spec = json!({"sources": [{"path": "a"}], field: value});
        refused("OkmsSecret", &spec, "spec", "write them into the entries of sources");
    }
    refused("OkmsSecret", &json!({"sources": []}), "spec.sources", "leave sources out");
    refused("OkmsSecret", &json!({"sources": [{"version": 1}]}), "spec.sources[0].path", "Required");
    let many: Vec<_> = (0..17).map(|n| json!({"path": format!("p{n}")})).collect();
    refused("OkmsSecret", &json!({ "sources": many }), "spec.sources", "at most 16");
    taken("OkmsSecret", &json!({ "sources": many[..16] }));
}

#[test]
fn an_entry_of_sources_is_held_to_the_same_rules_as_the_short_form() {
    for (entry, field, remedy) in [
        (json!({"path": "/a"}), "path", "write it like prod/shop/db"),
        (json!({"path": "a/../b"}), "path", "write the full path"),
        (json!({"path": "a b"}), "path", "not percent-encoded"),
        (json!({"path": "a", "version": 0}), "version", "greater than or equal to 1"),
        (json!({"path": "a", "keys": []}), "keys", "leave keys out"),
        (json!({"path": "a", "keys": [{"to": "a b"}]}), "keys[0].to", "choose another name"),
        (json!({"path": "a", "keys": [{"to": "a"}, {"to": "a"}]}), "keys[1]", "Duplicate"),
        (json!({"path": "a", "prefix": "a b"}), "prefix", "such as DB_"),
        (json!({"path": "a", "prefix": ".."}), "prefix", "such as DB_"),
        (json!({"path": "a", "prefix": "."}), "prefix", "neither is '.' nor begins with '..'"),
    ] {
        refused("OkmsSecret", &json!({"sources": [{"path": "x"}, entry]}), &format!("spec.sources[1].{field}"), remedy);
        if entry["path"] == "a" {
            refused("OkmsSecret", &entry, &format!("spec.{field}"), remedy);
        }
    }
    let keys: Vec<_> = (0..256).map(|n| json!({"to": format!("k{n}"), "from": "x"})).collect();
    let full: Vec<_> = (0..16).map(|n| json!({"path": format!("p{n}"), "prefix": "P_", "keys": keys})).collect();
    taken("OkmsSecret", &json!({ "sources": full, "onKeyConflict": "LastWins" }));
}

#[test]
fn what_is_decoded_is_one_field() {
    let key = |fields: Value| secret(json!({"keys": [merged(json!({"to": "a"}), fields)]}));
    refused("OkmsSecret", &key(json!({"decode": "Base64"})), "spec.keys[0]", "name the field in from");
    refused("OkmsSecret", &key(json!({"decode": "base64", "from": "x"})), "decode", r#""Base64", "Base64URL", "Auto""#);
    for decode in ["Base64", "Base64URL", "Auto"] {
        taken("OkmsSecret", &key(json!({"decode": decode, "from": "x"})));
    }
    refused("OkmsSecret", &secret(json!({"onKeyConflict": "First"})), "onKeyConflict", r#""Error", "LastWins""#);
}

#[test]
fn a_version_is_from_1_to_24000() {
    refused("OkmsSecret", &secret(json!({"version": 0})), "spec.version", "greater than or equal to 1");
    refused("OkmsSecret", &secret(json!({"version": 24001})), "spec.version", "less than or equal to 24000");
    refused("OkmsSecret", &secret(json!({"version": "7"})), "spec.version", "must be of type integer");
    taken("OkmsSecret", &secret(json!({"version": 1})));
    taken("OkmsSecret", &secret(json!({"version": 24000})));
}

#[test]
fn keys_must_be_legal_in_a_secret_and_differ() {
    for to in ["a b", "a/b", ".", "..", "..data", "ä"] {
        refused("OkmsSecret", &secret(json!({"keys": [{"to": to}]})), "spec.keys[0].to", "choose another name");
    }
    refused("OkmsSecret", &secret(json!({"keys": [{"to": "."}]})), "spec.keys[0].to", "neither is '.' nor begins with");
    let long = "k".repeat(254);
    refused("OkmsSecret", &secret(json!({"keys": [{ "to": long }]})), "spec.keys[0].to", "may not be more than 253");
    refused("OkmsSecret", &secret(json!({"keys": [{"from": "x"}]})), "spec.keys[0].to", "Required");
    refused("OkmsSecret", &secret(json!({"keys": []})), "spec.keys", "leave keys out");
    refused(
        "OkmsSecret",
        &secret(json!({"keys": [{"to": "a"}, {"to": "a", "from": "b"}]})),
        "spec.keys[1]",
        "Duplicate",
    );
    let many: Vec<_> = (0..257).map(|number| json!({"to": format!("k{number}")})).collect();
    refused("OkmsSecret", &secret(json!({ "keys": many })), "spec.keys", "at most 256");
    taken("OkmsSecret", &secret(json!({"keys": [{"to": ".dockerconfigjson"}, {"to": "tls.crt", "from": "/tls/0"}]})));
}

#[test]
fn an_interval_is_in_hours_minutes_and_whole_seconds() {
    for interval in ["", "10", "500ms", "1.5h", "-1s", "1d", "1s1m"] {
        refused("OkmsSecret", &secret(json!({ "refreshInterval": interval })), "spec.refreshInterval", "such as 30s");
    }
    for interval in ["0s", "30s", "1m", "1h30m", "99999h99999m99999s"] {
        taken("OkmsSecret", &secret(json!({ "refreshInterval": interval })));
    }
}

#[test]
fn a_policy_and_a_store_kind_are_among_the_known_ones() {
    refused(
        "OkmsSecret",
        &secret(json!({"withdrawalPolicy": "Keep"})),
        "spec.withdrawalPolicy",
        r#""Delete", "Retain""#,
    );
    refused(
        "OkmsSecret",
        &secret(json!({"storeRef": {"kind": "Store"}})),
        "spec.storeRef.kind",
        r#""ClusterOkmsStore", "OkmsStore""#,
    );
    refused("OkmsSecret", &secret(json!({"storeRef": {"name": "My Store"}})), "spec.storeRef.name", "as kubectl get");
}

#[test]
fn a_target_must_be_one_that_the_operator_may_write() {
    let target = |fields: Value| secret(json!({ "target": fields }));
    let long = "n".repeat(254);
    for (name, remedy) in
        [("Db", "choose another"), ("db_1", "choose another"), ("-db", "choose another"), (&long, "253")]
    {
        refused("OkmsSecret", &target(json!({ "name": name })), "spec.target.name", remedy);
    }
    for type_ in [
        "kubernetes.io/service-account-token",
        "bootstrap.kubernetes.io/token",
        "node.kubernetes.io/x",
        "helm.sh/release.v1",
    ] {
        refused("OkmsSecret", &target(json!({ "type": type_ })), "spec.target.type", "use Opaque, kubernetes.io/tls");
    }
    for type_ in ["Opaque", "kubernetes.io/tls", "kubernetes.io/dockerconfigjson", "example.com/my-type", "mine"] {
        taken("OkmsSecret", &target(json!({"name": "db.v2", "type": type_})));
    }
}

#[test]
fn what_is_merged_has_nothing_of_its_own_but_keys() {
    let target = |fields: Value| secret(json!({"target": merged(json!({"creationPolicy": "Merge"}), fields)}));
    for fields in [json!({"type": "Opaque"}), json!({"immutable": true}), json!({"labels": {"team": "shop"}})] {
        refused("OkmsSecret", &target(fields), "spec.target", "remove type, immutable and labels");
    }
    taken("OkmsSecret", &target(json!({"name": "app", "annotations": {"example.com/note": "x"}})));
    refused(
        "OkmsSecret",
        &secret(json!({"target": {"creationPolicy": "None"}})),
        "spec.target.creationPolicy",
        r#""Owner", "Orphan", "Merge""#,
    );
    for policy in ["Owner", "Orphan"] {
        let target = json!({"creationPolicy": policy, "immutable": true, "type": "mine", "labels": {"team": "shop"}});
        taken("OkmsSecret", &secret(json!({ "target": target })));
    }
}

#[test]
fn a_template_says_what_it_makes() {
    let template = |fields: Value| secret(json!({"target": {"template": fields}}));
    for nothing in [json!({}), json!({"mode": "Merge"})] {
        refused("OkmsSecret", &template(nothing), "spec.target.template", "say what to make");
    }
    for key in ["a b", "..", "ä"] {
        let spec = template(json!({"data": {key: "x"}}));
        refused("OkmsSecret", &spec, "spec.target.template.data", "such as application.properties");
    }
    for field in ["labels", "annotations"] {
        let spec = template(json!({"metadata": {field: {"helm.sh/chart": "x"}}}));
        refused("OkmsSecret", &spec, &format!("spec.target.template.metadata.{field}"), "use a prefix of your own");
    }
    let from = |map: Value| template(json!({"templateFrom": [{"configMap": map}]}));
    refused("OkmsSecret", &from(json!({})), "templateFrom[0].configMap.name", "Required");
    refused("OkmsSecret", &from(json!({"name": "A"})), "templateFrom[0].configMap.name", "in the same namespace");
    refused("OkmsSecret", &from(json!({"name": "a", "keys": ["a b"]})), "configMap.keys[0]", "a key of a ConfigMap");
    let labels = json!({"creationPolicy": "Merge", "template": {"metadata": {"labels": {"team": "x"}}}});
    refused("OkmsSecret", &secret(json!({ "target": labels })), "spec.target", "remove type, immutable and labels");
    let many: Vec<_> = (0..8).map(|n| json!({"configMap": {"name": format!("m{n}")}})).collect();
    let data: serde_json::Map<_, _> = (0..64).map(|n| (format!("{n:0253}"), json!("{{ x }}".repeat(500)))).collect();
    taken("OkmsSecret", &template(json!({"templateFrom": many, "data": data, "mode": "Merge"})));
    taken("OkmsSecret", &template(json!({"data": {"one": "x".repeat(65_536)}})));
    let long = template(json!({"data": {"one": "x".repeat(65_537)}}));
    refused("OkmsSecret", &long, "spec.target.template.data.one", "65536");
}

#[test]
fn reserved_and_malformed_labels_and_annotations_are_refused() {
    for field in ["labels", "annotations"] {
        let at = format!("spec.target.{field}");
        for key in [
            "okms-operator.io/managed",
            "merged.okms-operator.io/x",
            "kubernetes.io/x",
            "app.kubernetes.io/managed-by",
            "kubectl.kubernetes.io/last-applied-configuration",
            "helm.sh/chart",
        ] {
            refused("OkmsSecret", &secret(json!({"target": {field: {key: "x"}}})), &at, "use a prefix of your own");
        }
        for key in ["a b", "-a", "a/b/c", "/a"] {
            refused("OkmsSecret", &secret(json!({"target": {field: {key: "x"}}})), &at, "a key is a name such as");
        }
        taken("OkmsSecret", &secret(json!({"target": {field: {"team": "shop", "example.com/cost-center": "42"}}})));
    }
    for value in ["two words", "-", "ä"] {
        let spec = secret(json!({"target": {"labels": {"team": value}}}));
        refused("OkmsSecret", &spec, "spec.target.labels[team]", "use an annotation");
    }
    taken("OkmsSecret", &secret(json!({"target": {"annotations": {"note": "any text, also ä"}}})));
}

#[test]
fn an_unknown_field_is_refused() {
    for (kind, spec) in [
        ("OkmsSecret", secret(json!({"pth": "x"}))),
        ("ClusterOkmsStore", store(json!({"pth": "x"}))),
        ("OkmsStore", own_store(json!({"pth": "x"}))),
    ] {
        let message = kubectl(&["create", "--validate=strict", "-f", "-"], &object(kind, "bad", &spec)).failed();
        assert!(message.contains(r#"unknown field "spec.pth""#), "{message}");
    }
}

fn whole_secret() -> Value {
    json!({
        "storeRef": {"kind": "ClusterOkmsStore", "name": "default"},
        "path": "prod/shop/db",
        "version": 7,
        "prefix": "DB_",
        "keys": [{"to": "ca.crt", "from": "/tls/ca", "optional": true}, {"to": "config.json"}],
        "refreshInterval": "1m",
        "withdrawalPolicy": "Retain",
        "suspend": false,
        "target": {
            "name": "db-credentials", "type": "kubernetes.io/basic-auth",
            "labels": {"team": "shop"}, "annotations": {"example.com/note": "any text"},
            "immutable": true, "creationPolicy": "Orphan",
            "template": {
                "data": {"app.conf": "password={{ password }}\n"},
                "templateFrom": [{"configMap": {"name": "app", "keys": ["more.conf"]}}, {"configMap": {"name": "b"}}],
                "metadata": {"labels": {"user": "{{ user }}"}, "annotations": {"example.com/user": "{{ user }}"}},
                "mode": "Merge",
            },
        },
    })
}

/// What cannot stand beside a `path`.
fn whole_sources() -> Value {
    json!({
        "sources": [
            {"path": "prod/shop/db", "version": 7, "keys": [{"to": "p12", "from": "store", "decode": "Base64"}]},
            {"path": "prod/shop/smtp", "prefix": "SMTP_", "optional": true},
        ],
        "onKeyConflict": "LastWins",
        "target": {"creationPolicy": "Merge"},
    })
}

#[test]
fn what_was_applied_reads_back_unchanged_and_not_yet_done() {
    for (kind, name, spec) in [
        ("OkmsSecret", "read-back-small", secret(json!({}))),
        ("OkmsSecret", "read-back-whole", whole_secret()),
        ("OkmsSecret", "read-back-sources", whole_sources()),
        ("ClusterOkmsStore", "read-back-small", store(json!({}))),
        ("ClusterOkmsStore", "read-back-whole", whole_store()),
        ("OkmsStore", "read-back-small", own_store(json!({}))),
        ("OkmsStore", "read-back-whole", whole_own_store()),
    ] {
        kubectl(&["apply", "--server-side", "-f", "-"], &object(kind, name, &spec)).succeeded();
        let read = cluster::kubectl_json(cluster::shared(), &["get", kind, name]);
        assert_eq!(read["spec"], spec, "{kind}/{name}");
        assert_eq!(read["status"], json!({"observedGeneration": -1}), "{kind}/{name}");

        // The operator reads the same: nothing is lost on the way through our types.
        let ours = match kind {
            "OkmsSecret" => serde_json::to_value(&serde_json::from_value::<OkmsSecret>(read).unwrap().spec),
            "OkmsStore" => serde_json::to_value(&serde_json::from_value::<OkmsStore>(read).unwrap().spec),
            _ => serde_json::to_value(&serde_json::from_value::<ClusterOkmsStore>(read).unwrap().spec),
        };
        // The one thing it may write differently is a duration: 1h30m is also 90m.
        assert_eq!(ours.unwrap(), spec, "{kind}/{name}");
        kubectl(&["delete", kind, name], "").succeeded();
    }
}

#[test]
fn the_largest_objects_fit_the_cost_limits_of_the_rules() {
    let keys: Vec<_> =
        (0..256).map(|number| json!({"to": format!("{number:0253}"), "from": "f".repeat(1024)})).collect();
    let map: serde_json::Map<_, _> = (0..64)
        .map(|number| (format!("{}/{number:063}", vec!["d".repeat(63); 3].join(".")), json!("v".repeat(63))))
        .collect();
    let target = json!({"name": "n".repeat(253), "type": "t".repeat(253), "labels": map, "annotations": map});
    taken("OkmsSecret", &json!({"path": "p/".repeat(127) + "x", "keys": keys, "target": target}));

    // As much as fits into one request: the lists may be longer than a request may be.
    let rule = json!({"namespaces": vec!["*".repeat(63); 64], "paths": vec!["p/".repeat(128) + "*"; 16]});
    let pem = format!("-----BEGIN CERTIFICATE-----{}", "A".repeat(65_000));
    taken("ClusterOkmsStore", &store(json!({"access": vec![rule; 128], "ca": {"pem": pem}})));
    let values: Vec<_> = (0..64).map(|number| format!("{number:063}")).collect();
    let condition = json!({"key": "k".repeat(317), "operator": "In", "values": values});
    let labels: serde_json::Map<_, _> = (0..16).map(|number| (format!("l{number}"), json!("v".repeat(63)))).collect();
    let selector = json!({"matchLabels": labels, "matchExpressions": vec![condition; 16]});
    let rule = json!({"namespaceSelector": selector, "paths": ["*"]});
    let mut auth = oauth2();
    auth["oauth2"]["ca"] = json!({"pem": pem});
    let id = "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb";
    taken("ClusterOkmsStore", &store(json!({"access": vec![rule; 8], "ca": {"pem": pem}, "auth": auth, "okmsId": id})));
}

#[test]
fn kubectl_shows_the_state_at_a_glance() {
    kubectl(&["create", "namespace", "columns"], "").succeeded();
    let spec = secret(json!({}));
    kubectl(&["create", "-n", "columns", "-f", "-"], &object("OkmsSecret", "db", &spec)).succeeded();
    kubectl(&["create", "-n", "columns", "-f", "-"], &object("OkmsSecret", "other", &spec)).succeeded();
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Synced", "message": "", "observedGeneration": 1,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    });
    let status = json!({"status": {
        "observedGeneration": 1, "conditions": [condition], "store": "ClusterOkmsStore/default",
        "summary": "prod/shop/db@7", "target": {"name": "db-credentials", "keys": 2},
        "sources": [{"path": "prod/shop/db", "version": 7, "currentVersion": 9, "state": "Active"}],
    }});
    let patch = ["patch", "-n", "columns", "oks/db", "--subresource=status", "--type=merge", "-p", &status.to_string()];
    kubectl(&patch, "").succeeded();

    let all = kubectl(&["get", "okms", "-n", "columns"], "").succeeded();
    assert!(all.contains("okmssecret.okms-operator.io/db "), "{all}");
    let table = kubectl(&["get", "oks", "-n", "columns"], "").succeeded();
    let lines: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "READY", "REASON", "STORE", "SOURCE", "TARGET", "AGE"], "{table}");
    assert_eq!(
        lines[1][..6],
        ["db", "True", "Synced", "ClusterOkmsStore/default", "prod/shop/db@7", "db-credentials"],
        "{table}"
    );

    for selector in ["status.store=ClusterOkmsStore/default", "status.target.name=db-credentials"] {
        let found =
            kubectl(&["get", "oks", "-n", "columns", "-o", "name", "--field-selector", selector], "").succeeded();
        assert_eq!(found.trim(), "okmssecret.okms-operator.io/db", "{selector}");
    }
}

#[test]
fn kubectl_explains_every_field() {
    let text = kubectl(&["explain", "okmssecrets.spec", "--recursive=false"], "").succeeded();
    for field in [
        "storeRef",
        "path",
        "version",
        "keys",
        "prefix",
        "sources",
        "onKeyConflict",
        "refreshInterval",
        "withdrawalPolicy",
        "suspend",
        "target",
    ] {
        assert!(text.contains(&format!("  {field}\t<")), "{field} is missing from:\n{text}");
    }
    assert!(text.contains("Default: follow the current"), "{text}");
}
