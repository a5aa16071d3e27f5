//! The chart, through the real Helm into a real control plane: what it renders, what it refuses, what it may do.
//!
//! It installs things that exist once in a cluster, so it has one for itself. No pod runs there: what a kubelet would do with
//! the Deployment is not shown here, but that the API server admits its pod is.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use okms_operator::controller::rights;
use serde_json::{Value, json};
use test_cluster::{ControlPlane, binaries};

use crate::{
    cluster::{self, Output, kubectl, kubectl_json},
    guard::stores,
};

const NAMESPACE: &str = "okms-system";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/okms-operator")
}

fn values(name: &str) -> PathBuf {
    chart().join("ci").join(name)
}

/// A cluster with the chart installed as its README says: the least values, in a namespace that admits only restricted pods.
fn installed() -> &'static ControlPlane {
    static INSTALLED: OnceLock<ControlPlane> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let cluster = ControlPlane::start().unwrap();
        for namespace in [NAMESPACE, "shop", "team-a", "elsewhere"] {
            kubectl(&cluster, &["create", "namespace", namespace], "").succeeded();
        }
        let label = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(&cluster, &["label", "namespace", NAMESPACE, label], "").succeeded();
        let notes = install(&cluster, "okms-operator", &values("default-values.yaml")).succeeded();
        assert!(notes.contains("kubectl get clusterokmsstore default"), "{notes}");
        assert!(notes.contains("kubectl create secret tls okms-client -n okms-system"), "{notes}");
        assert!(notes.contains("path: prod/shop/db"), "{notes}");
        cluster
    })
}

fn install(cluster: &ControlPlane, release: &str, values: &Path) -> Output {
    let mut helm = cluster.command(binaries::helm_binary().unwrap());
    helm.args(["install", release]).arg(chart()).args(["--namespace", NAMESPACE, "--values"]).arg(values);
    cluster::run(helm, "")
}

pub(crate) fn template(arguments: &[&str]) -> Output {
    render("okms-operator", NAMESPACE, arguments)
}

/// Renders the chart for a release.
pub(crate) fn render(release: &str, namespace: &str, arguments: &[&str]) -> Output {
    // Rendering talks to no cluster, but Helm would still read the kubeconfig of whoever runs the test.
    let mut helm = std::process::Command::new(binaries::helm_binary().unwrap());
    helm.env("KUBECONFIG", "/dev/null");
    helm.args(["template", release]).arg(chart()).args(["--namespace", namespace]).args(arguments);
    cluster::run(helm, "")
}

fn rendered(values_file: &str) -> String {
    let values = values(values_file);
    let text = template(&["--values", values.to_str().unwrap()]).succeeded();
    // A release must not change the snapshots.
    text.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn it_renders_the_least_installation() {
    insta::assert_snapshot!(rendered("default-values.yaml"));
}

#[test]
fn it_renders_an_installation_limited_to_namespaces() {
    insta::assert_snapshot!(rendered("namespaces-values.yaml"));
}

#[test]
fn it_renders_an_installation_with_every_value() {
    insta::assert_snapshot!(rendered("full-values.yaml"));
}

#[test]
fn the_api_server_takes_all_that_it_renders() {
    for values in ["default-values.yaml", "namespaces-values.yaml", "full-values.yaml", "trusting-values.yaml"] {
        let objects = rendered(values);
        let arguments =
            ["apply", "--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-"];
        let taken = kubectl(installed(), &arguments, &objects).succeeded();
        assert!(taken.contains("deployment.apps/"), "{values}: {taken}");
    }
}

#[test]
fn what_is_missing_is_refused_with_what_to_do() {
    let message = template(&[]).failed();
    for sentence in [
        "store.endpoint is missing: set it to the address of your region's OKMS",
        "store.credentialSecret is missing: put your OKMS access certificate into a Secret",
        "store.access is missing: say which namespaces may read which paths",
        "set store.create to false",
    ] {
        assert!(message.contains(sentence), "{message}");
    }
    template(&["--set", "store.create=false"]).succeeded();
}

#[test]
fn a_rule_of_access_may_go_by_labels_alone() {
    let values = values("default-values.yaml");
    let rule = r#"store.access=[{"namespaceSelector":{"matchLabels":{"okms":"shop"}},"paths":["prod/*"]}]"#;
    let rendered = template(&["--values", values.to_str().unwrap(), "--set-json", rule]).succeeded();
    assert!(
        rendered.contains("  access:\n    - namespaceSelector:\n        matchLabels:\n          okms: shop\n"),
        "{rendered}"
    );
}

#[test]
fn what_is_wrong_is_refused_by_its_name() {
    let values = values("default-values.yaml");
    for (value, message) in [
        ("store.endpoint=null", "at '/store': missing property 'endpoint'"),
        ("store.access=null", "at '/store': missing property 'access'"),
        ("store.credentialSecret=null", "at '/store': missing property 'credentialSecret'"),
        ("store.endpoint=http://x", "at '/store/endpoint': 'http://x' does not match"),
        ("store.endpoint=https://x/api/1f0c", "at '/store/endpoint'"),
        ("store.endpont=https://x", "at '/store': additional properties 'endpont' not allowed"),
        ("store.access[0].paths=null", "at '/store/access/0/paths'"),
        ("store.withdrawalPolicy=Keep", "at '/store/withdrawalPolicy': value must be one of"),
        ("store.maxWithdrawalsPerHour=200%", "at '/store/maxWithdrawalsPerHour'"),
        ("store.maxWithdrawalsPerHour=3000000000", "at '/store/maxWithdrawalsPerHour'"),
        ("minRefreshInterval=ten", "at '/minRefreshInterval'"),
        ("minRefreshInterval=0s", "at '/minRefreshInterval'"),
        ("namespacedStores.allowedEndpoints=null", "at '/namespacedStores': missing property"),
        ("namespacedStores.allowedEndpoints={http://x}", "at '/namespacedStores/allowedEndpoints/0'"),
        ("namespacedStores.allowedEndpoints={https://x/}", "at '/namespacedStores/allowedEndpoints/0'"),
        ("namespacedStores.allowedEndpoints={https://a@x}", "at '/namespacedStores/allowedEndpoints/0'"),
        ("namespacedStores.allowedEndpoints={https://x:8*}", "at '/namespacedStores/allowedEndpoints/0'"),
        ("namespacedStores.allowedEndpoints={https://x:65536}", "at '/namespacedStores/allowedEndpoints/0'"),
        ("namespacedStores.allowedEndpoints={https://}", "at '/namespacedStores/allowedEndpoints/0'"),
        ("namespacedStores.allowedEndpoints={https://x.}", "at '/namespacedStores/allowedEndpoints/0'"),
        ("namespacedStores.maxPerNamespace=0", "at '/namespacedStores/maxPerNamespace'"),
        ("admissionPolicies.enabled=yes", "at '/admissionPolicies/enabled'"),
        ("store.access[0].namespaces=null", "at '/store/access/0/namespaces'"),
        ("store.access[0].namespaceSelector.labels.a=b", "additional properties 'labels' not allowed"),
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("replicaCount=0", "at '/replicaCount'"),
        ("leaderElection.leaseDuration=", "at '/leaderElection/leaseDuration'"),
        ("leaderElection.retryPeriod=1h", "at '/leaderElection/retryPeriod'"),
        ("credentials.default=x", "credentials.default is in the way"),
        ("credentials.A=x", "invalid propertyName 'A'"),
    ] {
        let error = template(&["--values", values.to_str().unwrap(), "--set", value]).failed();
        assert!(error.contains(message), "{value}\n{error}");
    }
}

#[test]
fn it_carries_the_version_of_the_crate() {
    let chart = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION")))
    );
}

/// Helm never upgrades CRDs, and owns the fields of those that it installed.
#[test]
fn its_crds_are_upgraded_by_the_command_of_its_readme() {
    let (cluster, newer) = (installed(), tempfile::tempdir().unwrap());
    for file in std::fs::read_dir(chart().join("crds")).unwrap() {
        let file = file.unwrap().path();
        let mut crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        crd["spec"]["versions"][0]["additionalPrinterColumns"][0]["description"] = json!("In other words.");
        let name = Path::new(file.file_name().unwrap()).with_extension("json");
        std::fs::write(newer.path().join(name), crd.to_string()).unwrap();
    }
    let readme = std::fs::read_to_string(chart().join("README.md")).unwrap();
    let arguments =
        |line: &str| Some(line.strip_prefix("kubectl ")?.strip_suffix("charts/okms-operator/crds/")?.to_owned());
    let arguments = readme.lines().find_map(arguments).unwrap();
    // The API server decides as always, and other tests keep the CRDs that they install.
    let arguments: Vec<_> =
        arguments.split_whitespace().chain(newer.path().to_str()).chain(["--dry-run=server"]).collect();
    kubectl(cluster, &arguments, "").succeeded();
}

#[test]
fn its_readme_names_every_value() {
    let read = |file: &str| std::fs::read_to_string(chart().join(file)).unwrap();
    let values: serde_json::Map<String, Value> = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let readme = read("README.md");
    let grouped = [
        "store",
        "namespacedStores",
        "admissionPolicies",
        "leaderElection",
        "image",
        "serviceAccount",
        "rbac",
        "service",
    ];
    let names = values.iter().flat_map(|(name, value)| match value {
        Value::Object(fields) if grouped.contains(&name.as_str()) => {
            fields.keys().map(|field| format!("{name}.{field}")).collect()
        }
        _ => vec![name.clone()],
    });
    let missing: Vec<_> = names.filter(|name| !readme.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "the README's table of values lacks {missing:?}");
}

#[test]
fn the_store_is_there_after_the_installation() {
    let store = kubectl_json(installed(), &["get", "clusterokmsstore", "default"]);
    assert_eq!(
        store["spec"],
        json!({
            "endpoint": "https://eu-west-rbx.okms.ovh.net",
            "auth": {"clientCertificate": {"mount": "default"}},
            "access": [{"namespaces": ["shop", "team-*"], "paths": ["prod/shop/*"]}],
        })
    );
}

#[test]
fn its_pod_is_admitted_where_only_restricted_pods_are() {
    let cluster = installed();
    let selector = "app.kubernetes.io/instance=okms-operator";
    let wait = ["wait", "pod", "-n", NAMESPACE, "-l", selector, "--for=create", "--timeout=120s"];
    kubectl(cluster, &wait, "").succeeded();
    let pods = kubectl_json(cluster, &["get", "pods", "-n", NAMESPACE, "-l", selector]);
    let pod = &pods["items"][0]["spec"];
    assert_eq!(pod["serviceAccountName"], "okms-operator");
    assert_eq!(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);

    // The namespace does refuse others, or the above would say nothing.
    let other = ["run", "other", "-n", NAMESPACE, "--image=other", "--restart=Never"];
    let refusal = kubectl(cluster, &other, "").failed();
    assert!(refusal.contains("violates PodSecurity"), "{refusal}");
}

#[test]
fn the_service_leads_to_the_pod() {
    let cluster = installed();
    let service = kubectl_json(cluster, &["get", "service", "-n", NAMESPACE, "okms-operator"]);
    let deployment = kubectl_json(cluster, &["get", "deployment", "-n", NAMESPACE, "okms-operator"]);
    let labels = deployment["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
    for (name, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(labels.get(name), Some(value));
    }
    let port = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0];
    assert_eq!(service["spec"]["ports"][0]["targetPort"], port["name"]);
}

/// Everything that a service account may do in a namespace, beyond what every account may.
fn granted(cluster: &ControlPlane, account: &str, namespace: &str) -> String {
    let list = |account: &str| -> Vec<String> {
        let account = format!("--as=system:serviceaccount:{account}");
        let groups = ["--as-group=system:serviceaccounts", "--as-group=system:authenticated"];
        let arguments = [&["auth", "can-i", "--list", "-n", namespace, &account], &groups[..]].concat();
        let text = kubectl(cluster, &arguments, "").succeeded();
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join("  ")).collect()
    };
    let everybodys = list("default:nobody");
    let mut rights: Vec<_> = list(account).into_iter().filter(|right| !everybodys.contains(right)).collect();
    rights.sort();
    rights.join("\n")
}

#[test]
fn it_may_do_no_more_than_its_work() {
    let cluster = installed();
    insta::assert_snapshot!("rights_in_any_namespace", granted(cluster, "okms-system:okms-operator", "default"));
    insta::assert_snapshot!("rights_in_its_own_namespace", granted(cluster, "okms-system:okms-operator", NAMESPACE));
}

#[test]
fn it_may_do_all_that_its_start_asks_for() {
    let cluster = installed();
    let account = "--as=system:serviceaccount:okms-system:okms-operator";
    for right in rights::RIGHTS {
        let (resource, subresource) = right.resource.split_once('/').unwrap_or((right.resource, ""));
        let resource = [resource, right.group].join(".");
        for verb in right.verbs {
            let mut what = resource.trim_end_matches('.').to_owned();
            let mut place = vec!["--all-namespaces"];
            if right.scope == rights::Scope::Lease {
                place = vec!["-n", NAMESPACE];
                if *verb != "create" {
                    what += "/okms-operator";
                }
            }
            let subresource = format!("--subresource={subresource}");
            let arguments = [&["auth", "can-i", verb, &what, account, &subresource], &place[..]].concat();
            let may = kubectl(cluster, &arguments, "");
            assert!(may.ok, "{verb} {right:?}: {}{}", may.stdout, may.stderr);
        }
    }
}

#[test]
fn limited_to_namespaces_it_may_touch_no_secret_elsewhere() {
    let cluster = installed();
    install(cluster, "limited", &values("namespaces-values.yaml")).succeeded();
    let account = "okms-system:limited-okms-operator";
    insta::assert_snapshot!("limited_rights_in_a_watched_namespace", granted(cluster, account, "shop"));
    insta::assert_snapshot!("limited_rights_in_its_own_namespace", granted(cluster, account, NAMESPACE));
    insta::assert_snapshot!("limited_rights_elsewhere", granted(cluster, account, "elsewhere"));
}

#[test]
fn whoever_edits_a_namespace_may_use_okms_secrets_but_not_stores() {
    let cluster = installed();
    for (user, role) in [("editor", "edit"), ("viewer", "view")] {
        let role = format!("--clusterrole={role}");
        let user = format!("--user={user}");
        kubectl(cluster, &["create", "rolebinding", &user[7..], "-n", "default", &role, &user], "").succeeded();
    }
    let may = |user: &str, verb: &str, resource: &str| {
        let user = format!("--as={user}");
        let resource: Vec<_> = resource.split(' ').collect();
        kubectl(cluster, &[&["auth", "can-i", "-n", "default", &user, verb], &resource[..]].concat(), "").ok
    };
    eventually("the roles are aggregated", || {
        may("editor", "create", "okmssecrets.okms-operator.io") && may("viewer", "get", "okmssecrets.okms-operator.io")
    });
    assert!(may("editor", "delete", "okmssecrets.okms-operator.io"));
    assert!(!may("viewer", "create", "okmssecrets.okms-operator.io"));
    for user in ["editor", "viewer"] {
        assert!(!may(user, "get", "clusterokmsstores.okms-operator.io"), "{user}");
        assert!(!may(user, "patch", "okmssecrets.okms-operator.io --subresource=status"), "{user}");
    }
}

#[test]
fn a_store_of_any_namespace_is_held_to_the_addresses_of_ovhcloud() {
    let cluster = installed();
    let make = |endpoint: &str, token_endpoint: Option<&str>| {
        let store = stores::store("new", endpoint, token_endpoint).to_string();
        kubectl(cluster, &["create", "-n", "elsewhere", "--dry-run=server", "-f", "-"], &store)
    };
    let (okms, token) = ("https://eu-west-rbx.okms.ovh.net", "https://www.ovh.com/auth/oauth2/token");
    eventually("the policy is in force", || !make("https://evil.example", None).ok);
    for (endpoint, token_endpoint) in [("https://evil.example", None), (okms, Some("https://evil.example/token"))] {
        let refusal = make(endpoint, token_endpoint).failed();
        assert!(refusal.contains("ValidatingAdmissionPolicy 'okms-operator-stores'"), "{refusal}");
        assert!(refusal.contains("use one of https://*.okms.ovh.net, https://*.okms.ovh.us,"), "{refusal}");
    }
    for (endpoint, token_endpoint) in [
        (okms, None),
        (okms, Some(token)),
        ("https://us-east-vin.okms.ovh.us", Some("https://us.ovhcloud.com/auth/oauth2/token")),
        ("https://ca-east-bhs.okms.ovh.net", Some("https://ca.ovh.com/auth/oauth2/token")),
    ] {
        make(endpoint, token_endpoint).succeeded();
    }
}

#[test]
fn the_operator_takes_the_arguments_of_its_pod() {
    for values in ["default-values.yaml", "namespaces-values.yaml", "full-values.yaml"] {
        let rendered = rendered(values);
        let objects = rendered.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
        let deployment = objects.into_iter().find(|object| object["kind"] == "Deployment").unwrap();
        let arguments = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        let mut operator = std::process::Command::new(env!("CARGO_BIN_EXE_okms-operator"));
        operator.args(arguments.as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()));
        // What is wrong with the arguments is said before a cluster is looked for, and there is none.
        operator.env("KUBECONFIG", "/dev/null");
        let said = cluster::run(operator, "").failed();
        assert!(said.contains("no Kubernetes cluster can be found"), "{values}: {said}");
    }
}

#[test]
fn without_policies_it_renders_none() {
    assert!(rendered("default-values.yaml").contains("kind: ValidatingAdmissionPolicy"));
    assert!(!rendered("trusting-values.yaml").contains("kind: ValidatingAdmissionPolicy"));
}

/// Waits for a state that controllers bring about.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !holds() {
        assert!(Instant::now() < deadline, "not within two minutes: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
