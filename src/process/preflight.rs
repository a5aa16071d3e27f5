//! Asks the cluster whether the operator can work there at all, so that a missing CRD or role is one line at the start instead of a
//! watch that fails forever.
//!
//! Reads no object: it asks which resources are served, and what this identity may do.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use tokio::time::timeout;

use super::{Error, cluster::Cluster};
use crate::controller::rights::{GROUP, GROUP_VERSION, RIGHTS, Right, Scope};

/// For all questions together. Each is answered in milliseconds by a cluster that works.
const LIMIT: Duration = Duration::from_secs(20);

/// About how many rights is asked at once, each with a question for each of its verbs: many namespaces make many of them.
const AT_ONCE: usize = 4;

/// Where the operator is going to work.
pub(super) struct Places<'a> {
    /// The namespaces that it watches; none means all.
    pub watched: &'a [String],
    /// The namespace and the name of its Lease; absent without leader election.
    pub lease: Option<(&'a str, &'a str)>,
}

/// Ends well if the operator can work there.
pub(super) async fn check(cluster: &Cluster, places: &Places<'_>) -> Result<(), Error> {
    let questions = async {
        let (served, granted) = tokio::join!(crds_are_served(cluster), rights_are_granted(cluster, places));
        // Whoever lacks the kinds needs them first.
        served.and(granted)
    };
    let source = || format!("no answer within {} seconds", LIMIT.as_secs()).into();
    timeout(LIMIT, questions)
        .await
        .unwrap_or_else(|_| Err(Error::Unreachable { server: cluster.server.clone(), source: source() }))
}

async fn crds_are_served(cluster: &Cluster) -> Result<(), Error> {
    let served = match cluster.client.list_api_group_resources(GROUP_VERSION).await {
        Ok(list) => list.resources.into_iter().map(|resource| resource.name).collect(),
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(failed(cluster, error)),
    };
    let own = RIGHTS.iter().filter(|right| right.group == GROUP && !right.resource.contains('/'));
    let missing: Vec<_> =
        own.map(|right| right.resource).filter(|resource| !served.iter().any(|name| name == resource)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = format!("{} of {GROUP_VERSION}", missing.join(" and "));
    Err(Error::CrdsMissing { server: cluster.server.clone(), missing })
}

async fn rights_are_granted(cluster: &Cluster, places: &Places<'_>) -> Result<(), Error> {
    let questions = RIGHTS.iter().flat_map(|right| places.of(right).into_iter().map(move |place| (right, place)));
    let lacking: Vec<Option<String>> = stream::iter(questions)
        .map(|(right, place)| lacking(cluster, right, place))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let lacking: Vec<_> = lacking.into_iter().flatten().collect();
    if lacking.is_empty() {
        return Ok(());
    }
    Err(Error::RightsMissing { user: user(&cluster.client).await, missing: lacking.join("; ") })
}

/// Where a right is needed.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Absent: in all, or the object has none.
    namespace: Option<&'a str>,
    /// Absent: on all.
    name: Option<&'a str>,
}

impl Places<'_> {
    fn of(&self, right: &Right) -> Vec<Place<'_>> {
        let anywhere = || vec![Place { namespace: None, name: None }];
        match right.scope {
            Scope::Cluster => anywhere(),
            Scope::Watched if self.watched.is_empty() => anywhere(),
            Scope::Watched => {
                self.watched.iter().map(|namespace| Place { namespace: Some(namespace), name: None }).collect()
            }
            Scope::Lease => {
                let lease = self.lease.map(|(namespace, name)| Place { namespace: Some(namespace), name: Some(name) });
                lease.into_iter().collect()
            }
        }
    }
}

/// Which of a right's verbs are not granted there, in words.
async fn lacking(cluster: &Cluster, right: &Right, place: Place<'_>) -> Result<Option<String>, Error> {
    let granted = try_join_all(right.verbs.iter().map(|verb| may(cluster, right, verb, place))).await?;
    let verbs: Vec<_> =
        right.verbs.iter().zip(granted).filter(|(_, granted)| !granted).map(|(verb, _)| *verb).collect();
    if verbs.is_empty() {
        return Ok(None);
    }
    let group = if right.group.is_empty() { String::new() } else { format!(" of {}", right.group) };
    let place = match (place.namespace, right.scope) {
        (Some(namespace), Scope::Lease) => {
            format!(
                " in namespace {namespace} (for its leader election, which --leader-elect=false switches off where only one process runs)"
            )
        }
        (Some(namespace), _) => format!(" in namespace {namespace}"),
        (None, Scope::Watched) => " in all namespaces".to_owned(),
        (None, Scope::Cluster | Scope::Lease) => String::new(),
    };
    Ok(Some(format!("{} {}{group}{place}", verbs.join(", "), right.resource)))
}

async fn may(cluster: &Cluster, right: &Right, verb: &str, place: Place<'_>) -> Result<bool, Error> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (right.resource, None),
    };
    let attributes = ResourceAttributes {
        group: Some(right.group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(verb.to_owned()),
        namespace: place.namespace.map(str::to_owned),
        // What is created has no name yet when its right is asked for.
        name: place.name.filter(|_| verb != "create").map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let answer = Api::all(cluster.client.clone()).create(&PostParams::default(), &review).await;
    let review: SelfSubjectAccessReview = answer.map_err(|error| failed(cluster, error))?;
    Ok(review.status.is_some_and(|status| status.allowed))
}

/// Who the operator is to the cluster. Where even that is not told, the message does without.
async fn user(client: &Client) -> String {
    let answer = Api::all(client.clone()).create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let name = answer.ok().and_then(|review: SelfSubjectReview| review.status?.user_info?.username);
    name.unwrap_or_else(|| "the operator's identity".to_owned())
}

/// Whose fault a failed question is.
pub(super) fn failed(cluster: &Cluster, error: kube::Error) -> Error {
    let server = cluster.server.clone();
    match error {
        kube::Error::Api(status) => {
            let source = format!("{} (status {})", status.message, status.code).into();
            if status.code == 401 || status.code == 403 {
                Error::Unauthenticated { server, source }
            } else {
                Error::Unreachable { server, source }
            }
        }
        kube::Error::Service(source) => Error::Unreachable { server, source },
        error => Error::Unreachable { server, source: error.into() },
    }
}
