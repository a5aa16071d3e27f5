//! What is refused of a store of either kind.

use serde_json::{Value, json};

use super::{merged, refused, taken};

/// A `ClusterOkmsStore` with these fields beside, or instead of, the required ones.
pub(super) fn store(fields: Value) -> Value {
    let required = json!({
        "endpoint": "https://eu-west-rbx.okms.ovh.net", "auth": {"clientCertificate": {"mount": "default"}},
    });
    merged(required, fields)
}

/// An `OkmsStore`, likewise.
pub(super) fn own_store(fields: Value) -> Value {
    let required = json!({
        "endpoint": "https://eu-west-rbx.okms.ovh.net",
        "auth": {"clientCertificate": {"secretRef": {"name": "okms-client"}}},
    });
    merged(required, fields)
}

/// The credential of a service account.
pub(super) fn oauth2() -> Value {
    json!({"oauth2": {
        "secretRef": {"name": "okms-sa"}, "tokenEndpoint": "https://www.ovh.com/auth/oauth2/token",
    }})
}

pub(super) fn whole_own_store() -> Value {
    let mut auth = oauth2();
    auth["oauth2"]["ca"] = json!({"secretRef": {"name": "ca", "key": "ca.crt"}});
    json!({
        "endpoint": "https://eu-west-rbx.okms.ovh.net/",
        "okmsId": "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb",
        "auth": auth,
        "ca": {"configMapRef": {"name": "ca", "key": "ca.crt"}},
        "refreshInterval": "1m30s",
        "withdrawalPolicy": "Retain",
        "maxWithdrawalsPerHour": 50,
    })
}

pub(super) fn whole_store() -> Value {
    json!({
        "endpoint": "https://eu-west-rbx.okms.ovh.net/",
        "okmsId": "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb",
        "auth": {"clientCertificate": {"secretRef": {"name": "okms-client"}}},
        "ca": {"configMapRef": {"name": "ca", "key": "ca.crt"}},
        "refreshInterval": "1h30m",
        "withdrawalPolicy": "Delete",
        "limits": {"requestsPerSecond": 20, "concurrentRequests": 8, "timeout": "30s"},
        "maxWithdrawalsPerHour": "20%",
        "access": [
            {"namespaces": ["shop", "team-*"], "paths": ["prod/shop/*", "shared/ca"]},
            {
                "namespaceSelector": {
                    "matchLabels": {"okms": "prod"},
                    "matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold"]}],
                },
                "paths": ["*"],
            },
        ],
    })
}

#[test]
fn an_endpoint_is_https_and_a_host() {
    for (endpoint, remedy) in [
        ("http://eu-west-rbx.okms.ovh.net", "begins with https://"),
        ("eu-west-rbx.okms.ovh.net", "begins with https://"),
        ("https://eu-west-rbx.okms.ovh.net/api/1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb", "and the id as okmsId"),
        ("https://eu-west-rbx.okms.ovh.net/api", "and the id as okmsId"),
        ("https://eu-west-rbx.okms.ovh.net/v1", "only https://, a host"),
        ("https://eu-west-rbx.okms.ovh.net//", "only https://, a host"),
        ("https://user@eu-west-rbx.okms.ovh.net", "only https://, a host"),
        ("https://eu-west-rbx.okms.ovh.net?x", "only https://, a host"),
        ("https://eu-west-rbx.okms.ovh.net#x", "only https://, a host"),
        ("https://eu west", "only https://, a host"),
        ("https://", "only https://, a host"),
    ] {
        refused("ClusterOkmsStore", &store(json!({ "endpoint": endpoint })), "spec.endpoint", remedy);
    }
    for endpoint in ["https://eu-west-rbx.okms.ovh.net/", "https://localhost:8443", "https://[::1]:8443"] {
        taken("ClusterOkmsStore", &store(json!({ "endpoint": endpoint })));
    }
    let id = "1F0C3A5E-75b8-40a3-9b0e-71ffe5ff03cb";
    taken("ClusterOkmsStore", &store(json!({ "okmsId": id })));
    refused("ClusterOkmsStore", &store(json!({"okmsId": "1f0c"})), "spec.okmsId", "copy it from the control panel");
}

#[test]
fn a_credential_and_a_ca_come_from_one_place_each() {
    let auth = |fields: Value| store(json!({"auth": {"clientCertificate": fields}}));
    let at = "spec.auth.clientCertificate";
    refused("ClusterOkmsStore", &auth(json!({})), at, "exactly one of mount");
    refused("ClusterOkmsStore", &auth(json!({"mount": "a", "secretRef": {"name": "a"}})), at, "exactly one of mount");
    for mount in ["../x", "a/b", "A", "-"] {
        let spec = auth(json!({ "mount": mount }));
        refused("ClusterOkmsStore", &spec, "spec.auth.clientCertificate.mount", "the name of one folder");
    }
    refused("ClusterOkmsStore", &auth(json!({"secretRef": {"name": "A b"}})), "secretRef.name", "lower-case letters");
    taken("ClusterOkmsStore", &auth(json!({"secretRef": {"name": "okms-client"}})));

    let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n";
    let reference = json!({"name": "ca", "key": "ca.crt"});
    let ca = |fields: Value| store(json!({ "ca": fields }));
    refused("ClusterOkmsStore", &ca(json!({})), "spec.ca", "exactly one of pem");
    refused("ClusterOkmsStore", &ca(json!({"pem": pem, "secretRef": reference})), "spec.ca", "exactly one of pem");
    refused("ClusterOkmsStore", &ca(json!({"pem": "/etc/ca.crt"})), "spec.ca.pem", "paste the certificate authority");
    refused("ClusterOkmsStore", &ca(json!({ "pem": key })), "spec.ca.pem", "remove the private key");
    refused("ClusterOkmsStore", &ca(json!({"configMapRef": {"name": "ca"}})), "spec.ca.configMapRef.key", "Required");
    for good in [json!({ "pem": pem }), json!({ "configMapRef": reference }), json!({ "secretRef": reference })] {
        taken("ClusterOkmsStore", &ca(good));
    }
}

#[test]
fn limits_have_sane_ranges() {
    for (limits, field) in [
        (json!({"requestsPerSecond": 0}), "requestsPerSecond"),
        (json!({"requestsPerSecond": 1001}), "requestsPerSecond"),
        (json!({"concurrentRequests": 0}), "concurrentRequests"),
        (json!({"concurrentRequests": 65}), "concurrentRequests"),
    ] {
        refused(
            "ClusterOkmsStore",
            &store(json!({ "limits": limits })),
            &format!("spec.limits.{field}"),
            "than or equal to",
        );
    }
    for timeout in ["0s", "2m1s", "1h"] {
        refused(
            "ClusterOkmsStore",
            &store(json!({"limits": {"timeout": timeout}})),
            "spec.limits.timeout",
            "from 1s to 2m",
        );
    }
    taken(
        "ClusterOkmsStore",
        &store(json!({"limits": {"requestsPerSecond": 1000, "concurrentRequests": 64, "timeout": "2m"}})),
    );

    let huge = [json!(1_000_001), json!(2_147_483_648_u64), json!(i64::MAX)];
    for limit in [json!("101%"), json!("5"), json!("-1%"), json!(-1), json!("%")].into_iter().chain(huge) {
        let spec = store(json!({ "maxWithdrawalsPerHour": limit }));
        refused("ClusterOkmsStore", &spec, "spec.maxWithdrawalsPerHour", "write a number from 0 to 1000000");
    }
    for limit in [json!(0), json!(1_000_000), json!("0%"), json!("100%")] {
        taken("ClusterOkmsStore", &store(json!({ "maxWithdrawalsPerHour": limit })));
    }
}

#[test]
fn an_access_rule_says_who_may_read_what() {
    let rule = |fields: Value| store(json!({ "access": [fields] }));
    refused("ClusterOkmsStore", &rule(json!({"paths": ["*"]})), "spec.access[0]", "for every namespace");
    refused(
        "ClusterOkmsStore",
        &rule(json!({"namespaces": [], "paths": ["*"]})),
        "spec.access[0]",
        "for every namespace",
    );
    refused("ClusterOkmsStore", &rule(json!({"namespaces": ["shop"]})), "spec.access[0].paths", "Required");
    refused(
        "ClusterOkmsStore",
        &rule(json!({"namespaces": ["shop"], "paths": []})),
        "spec.access[0].paths",
        "for everything",
    );
    for path in ["prod*", "*/db", "prod/*/db", "/prod", "prod/", "prod//db", "a b", ""] {
        let spec = rule(json!({"namespaces": ["shop"], "paths": ["a", path]}));
        refused("ClusterOkmsStore", &spec, "spec.access[0].paths[1]", "no other use of '*'");
    }
    let spec = rule(json!({"namespaces": ["shop"], "paths": ["prod/../*"]}));
    refused("ClusterOkmsStore", &spec, "spec.access[0].paths[0]", "no '.' or '..' segment");
    for namespace in ["Shop", "team_a", "-x", ""] {
        let spec = rule(json!({"namespaces": [namespace], "paths": ["*"]}));
        refused("ClusterOkmsStore", &spec, "spec.access[0].namespaces[0]", "a glob such as team-*");
    }
    taken("ClusterOkmsStore", &rule(json!({"namespaces": ["shop", "team-*", "*"], "paths": ["*", "prod/*", "a/b"]})));

    let by_labels = |selector: Value| rule(json!({"namespaceSelector": selector, "paths": ["*"]}));
    let condition = |fields: Value| by_labels(json!({"matchExpressions": [fields]}));
    let at = "spec.access[0].namespaceSelector";
    refused("ClusterOkmsStore", &by_labels(json!({})), at, "would mean every namespace");
    refused("ClusterOkmsStore", &by_labels(json!({"matchLabels": {}})), at, "would mean every namespace");
    for operator in ["In", "NotIn"] {
        for values in [json!(null), json!([])] {
            let mut fields = json!({"key": "tier", "operator": operator, "values": values});
            fields.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            refused("ClusterOkmsStore", &condition(fields), at, "In and NotIn need values");
        }
    }
    let fields = json!({"key": "tier", "operator": "Exists", "values": ["gold"]});
    refused("ClusterOkmsStore", &condition(fields), at, "must have none");
    refused("ClusterOkmsStore", &condition(json!({"key": "tier", "operator": "Is"})), at, "supported values");
    taken("ClusterOkmsStore", &by_labels(json!({"matchLabels": {"tier": "gold"}})));
    taken("ClusterOkmsStore", &condition(json!({"key": "tier", "operator": "DoesNotExist"})));
}

#[test]
fn an_identity_is_shown_in_one_way() {
    let id = json!("1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb");
    let token = json!({"token": {"secretRef": {"name": "okms-pat", "key": "token"}}});
    let both = merged(token.clone(), oauth2());
    let at = "spec.auth";
    for (kind, spec) in [("ClusterOkmsStore", store as fn(Value) -> Value), ("OkmsStore", own_store)] {
        refused(kind, &spec(json!({"auth": {}})), at, "exactly one of clientCertificate");
        refused(kind, &spec(json!({"auth": both, "okmsId": id})), at, "exactly one of clientCertificate");
        for auth in [&token, &oauth2()] {
            refused(kind, &spec(json!({ "auth": auth })), "spec", "give its id, a UUID, as okmsId");
            taken(kind, &spec(json!({"auth": auth, "okmsId": id})));
        }
        for endpoint in [
            "http://www.ovh.com/auth/oauth2/token",
            "https://user@www.ovh.com/auth/oauth2/token",
            "https://www.ovh.com/auth/oauth2/token?x",
            "https://www.ovh.com/auth oauth2",
            "https://www.ovh.com",
            "https://www.ovh.com/",
            "https://www.ovh.com//token",
            "https://www.ovh.com/../token",
            "www.ovh.com",
        ] {
            let mut auth = oauth2();
            auth["oauth2"]["tokenEndpoint"] = json!(endpoint);
            let field = "spec.auth.oauth2.tokenEndpoint";
            refused(kind, &spec(json!({"auth": auth, "okmsId": id})), field, "write it like https://www.ovh.com");
        }
    }
}

#[test]
fn a_store_of_a_namespace_has_neither_access_nor_limits_nor_a_mount() {
    for fields in [json!({"access": []}), json!({"limits": {"timeout": "1s"}})] {
        let field = format!("spec.{}", fields.as_object().unwrap().keys().next().unwrap());
        refused("OkmsStore", &own_store(fields), &field, "unknown field");
    }
    let mounted = json!({"auth": {"clientCertificate": {"mount": "default"}}});
    refused("OkmsStore", &own_store(mounted), "spec.auth.clientCertificate.mount", "unknown field");
}
