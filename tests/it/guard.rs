//! The roles and the admission policies of the chart, in force: what the operator can do with them and what not, whatever else is granted to
//! it, and what people can do.
//!
//! They are rendered by the real Helm. One installation serves the operators of all worlds on the shared control plane, so that every test of
//! what the operator does is one of what it may do; tests of refusals have installations of their own. Which lines are drawn is in
//! [`attacks`] for the operator and in [`stores`] for people.

mod attacks;
mod attempt;
pub(crate) mod stores;
mod work;

use std::sync::OnceLock;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::{Api, Client, Config, config::AuthInfo};
use serde_json::{Value, json};

use crate::{
    chart,
    cluster::{self, kubectl},
    world::{World, config_of, eventually},
};

/// The chart's roles and policies, for one operator.
#[derive(Clone)]
struct Installation {
    namespace: String,
    /// What its objects are called after.
    name: String,
}

impl Installation {
    /// Installs them on the shared control plane, in a namespace that exists, with a value that is given to Helm. No Deployment, since no pod
    /// runs there, and no store.
    fn make(release: &str, namespace: &str, value: &str) -> Self {
        let rendered =
            chart::render(release, namespace, &["--set", "store.create=false", "--set-json", value]).succeeded();
        let objects = rendered.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
        // What is said of stores in all namespaces holds for everybody, and in other tests they are at any address.
        let for_everybody = |object: &Value| {
            let name = object["metadata"]["name"].as_str().is_some_and(|name| name.ends_with("-okms-operator-stores"));
            name && object["kind"] == "ValidatingAdmissionPolicyBinding" && object["spec"]["matchResources"].is_null()
        };
        let others = |object: &Value| matches!(object["kind"].as_str(), None | Some("Deployment" | "Service"));
        let objects: Vec<_> = objects.filter(|object| !others(object) && !for_everybody(object)).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        kubectl(cluster::shared(), &["apply", "--server-side", "-f", "-"], &list.to_string()).succeeded();
        let installation = Self { namespace: namespace.to_owned(), name: format!("{release}-okms-operator") };
        installation.await_policies();
        installation
    }

    /// Who the operator is to the API server.
    fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    /// A token of the operator's `ServiceAccount`, as a kubelet would mount it.
    fn token(&self) -> String {
        let arguments = ["create", "token", &self.name, "-n", &self.namespace, "--duration=24h"];
        kubectl(cluster::shared(), &arguments, "").succeeded().trim().to_owned()
    }

    /// A client that is the operator.
    async fn client(&self) -> Client {
        let installation = self.clone();
        let token = tokio::task::spawn_blocking(move || installation.token()).await.unwrap();
        client_with(token).await
    }

    /// Waits until the API server refuses what the policies for the operator refuse. Asked in its name, but with the rights of an
    /// administrator, so that the roles have no say in it.
    fn await_policies(&self) {
        let user = format!("--as={}", self.user());
        let as_the_operator = [user.as_str(), "--as-group=system:masters", "-n", &self.namespace, "--dry-run=server"];
        for (what, policy) in [(&["configmap"][..], "writes"), (&["secret", "generic"], "secrets")] {
            let arguments = [&["create"], what, &["trial"], &as_the_operator].concat();
            let denial = format!("ValidatingAdmissionPolicy '{}-{policy}'", self.name);
            chart::eventually(&denial, || kubectl(cluster::shared(), &arguments, "").stderr.contains(&denial));
        }
    }

    /// Waits until the API server has looked at the types in the expressions of a policy, which it does not refuse for them.
    async fn assert_is_sound(&self, client: &Client, policy: &str) {
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
        let name = format!("{}-{policy}", self.name);
        let checked = eventually(&format!("the types of {name} are checked"), async || {
            let policy = policies.get(&name).await.map_err(|error| error.to_string())?;
            let checked = policy.status.filter(|status| status.observed_generation == policy.metadata.generation);
            checked.and_then(|status| status.type_checking).ok_or_else(|| "they are not".to_owned())
        })
        .await;
        assert_eq!(checked.expression_warnings, None, "{name}");
    }
}

/// A client of the shared control plane that proves itself with a token.
async fn client_with(token: String) -> Client {
    Client::try_from(config_with(token).await).unwrap()
}

/// What it is made from.
async fn config_with(token: String) -> Config {
    let cluster = tokio::task::spawn_blocking(cluster::shared).await.unwrap();
    let mut config = config_of(cluster).await;
    config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
    config
}

/// An installation of its own for a test: called after its world, in its namespace.
async fn installed(world: &World, value: &str) -> Installation {
    let (name, value) = (world.name.clone(), value.to_owned());
    tokio::task::spawn_blocking(move || Installation::make(&name, &name, &value)).await.unwrap()
}

/// A client for the operators of worlds on the shared control plane: the `ServiceAccount` of an installation for all namespaces, under its
/// policies.
pub(crate) async fn operator() -> Client {
    Client::try_from(operator_config().await).unwrap()
}

/// What that client is made from.
pub(crate) async fn operator_config() -> Config {
    static TOKEN: OnceLock<String> = OnceLock::new();
    let make = || {
        kubectl(cluster::shared(), &["create", "namespace", "okms-system"], "").succeeded();
        Installation::make("guarded", "okms-system", ALL_NAMESPACES).token()
    };
    config_with(tokio::task::spawn_blocking(move || TOKEN.get_or_init(make).clone()).await.unwrap()).await
}

const ALL_NAMESPACES: &str = "watchNamespaces=[]";
