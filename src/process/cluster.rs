//! The way to the Kubernetes API: from a kubeconfig, or from inside a pod.

use std::{env, time::Duration};

use kube::{
    Client,
    config::{Config, KubeConfigOptions},
};

use super::Error;
use crate::k8s;

/// Half of what the API server itself grants an ordinary request (`--request-timeout` 1m). The largest are pages of lists, 500
/// objects each, and before a write two webhooks may each take the ten seconds that they have by default. A status has 15 s,
/// after which an API server that has too much to do would turn it away.
const ANSWER: Duration = Duration::from_secs(30);

/// A cluster, and how it is called in messages.
pub(super) struct Cluster {
    /// Its default namespace is the `ServiceAccount`'s in a pod, else that of the kubeconfig's context.
    pub(super) client: Client,
    /// `https://10.0.0.1:443`
    pub(super) server: String,
}

impl Cluster {
    /// Finds the cluster; whether it answers is not asked.
    ///
    /// A `KUBECONFIG` that is set is meant, so that it is never passed over in silence for the cluster of the pod.
    pub(super) async fn find() -> Result<Self, Error> {
        let in_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let config = if in_pod && env::var_os("KUBECONFIG").is_none() {
            Config::incluster().map_err(|error| Error::NoCluster(error.into()))?
        } else {
            let options = KubeConfigOptions::default();
            Config::from_kubeconfig(&options).await.map_err(|error| Error::NoCluster(error.into()))?
        };
        Self::new(config)
    }

    fn new(config: Config) -> Result<Self, Error> {
        let server = address(&config.cluster_url);
        let client = k8s::client(config, ANSWER).map_err(|error| Error::NoCluster(error.into()))?;
        Ok(Self { client, server })
    }
}

/// The address alone: a URL may hold a user and a password.
fn address(url: &http::Uri) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme_str().unwrap_or("https"), url.host().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_no_password() {
        assert_eq!(address(&"https://user:pass@host:6443/path".parse().unwrap()), "https://host:6443");
    }
}
