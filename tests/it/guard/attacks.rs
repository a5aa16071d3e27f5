//! What the operator's `ServiceAccount` can do, tried with its own token: first with the roles of the chart, then after somebody made it an
//! administrator of the cluster by mistake, when only the policies are left.
//!
//! The attempts on Secrets are in [`secrets`], those on anything else in [`others`].

mod others;
mod scene;
mod secrets;

use kube::Client;
use serde_json::{Value, json};

use self::scene::Scene;
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

struct Line {
    what: &'static str,
    attempt: Attempt,
    expected: Expected,
}

/// Attempts that all become the same.
fn lines(expected: Expected, attempts: impl IntoIterator<Item = (&'static str, Attempt)>) -> Vec<Line> {
    attempts.into_iter().map(|(what, attempt)| Line { what, attempt, expected }).collect()
}

impl Line {
    /// What is wrong, if the outcome is another than expected.
    async fn wrong(&self, client: &Client, installation: &Installation) -> Option<String> {
        let outcome = self.attempt.make(client).await;
        let holds = match (self.expected, &outcome) {
            (Done | NotSeen, Ok(())) => true,
            (Denied(policy, words), Err(said)) => {
                let denial = format!("ValidatingAdmissionPolicy '{}-{policy}' ", installation.name);
                said.starts_with("403") && said.contains(&denial) && said.contains(words)
            }
            _ => false,
        };
        (!holds).then(|| format!("{}: {outcome:?} instead of {:?}", self.what, self.expected))
    }
}

/// What nobody should do, and somebody will.
async fn make_an_administrator(installation: &Installation, client: &Client) {
    let (name, user) = (format!("{}-mistake", installation.name), format!("--user={}", installation.user()));
    let bind = move || {
        let arguments = ["create", "clusterrolebinding", &name, "--clusterrole=cluster-admin", &user];
        kubectl(cluster::shared(), &arguments, "").succeeded();
    };
    tokio::task::spawn_blocking(bind).await.unwrap();
    eventually("it is an administrator", async || {
        let everything = json!({"group": "*", "resource": "*", "verb": "*"});
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": everything}});
        let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews");
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        let answer: Value = client.request(request.body(review.to_string().into_bytes()).unwrap()).await.unwrap();
        if answer["status"]["allowed"] == true { Ok(()) } else { Err("it is not") }
    })
    .await;
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
    let lines = [secrets::creations(&scene), secrets::changes(&scene), secrets::deletions(&scene)];
    let lines: Vec<Line> = lines.into_iter().flatten().chain(others::all(&scene, &installation)).collect();

    // With the roles of the chart.
    for Line { what, attempt, expected } in &lines {
        if !matches!(expected, Done) {
            let outcome = attempt.make(&client).await;
            assert!(outcome.as_ref().is_err_and(|said| said.starts_with("403")), "{what}: {outcome:?}");
        }
    }

    make_an_administrator(&installation, &client).await;
    let mut wrong = Vec::new();
    for line in &lines {
        wrong.extend(line.wrong(&client, &installation).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // Others are not held to it: the policies ask who it is.
    for Line { what, attempt, expected } in &lines {
        if matches!(expected, Denied("secrets", _)) {
            assert_eq!(attempt.make(&world.client).await, Ok(()), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limited_to_namespaces_it_writes_nowhere_else_even_as_an_administrator_of_the_cluster() {
    let world = World::without_operator("attacks-limited").await;
    let scene = Scene::set(&world).await;
    let installation = installed(&world, &format!(r#"watchNamespaces=["{}"]"#, world.name)).await;
    let client = installation.client().await;
    make_an_administrator(&installation, &client).await;
    let elsewhere = Scene { namespace: "default".to_owned(), ..scene.clone() };
    let outside = Denied("writes", "Secrets of the namespaces that it watches");
    let lines = lines(Done, [("a target", scene.create(&json!({})))]).into_iter().chain(lines(
        outside,
        [("a target elsewhere", elsewhere.create(&json!({"metadata": {"ownerReferences": null}})))],
    ));
    for line in lines {
        assert_eq!(line.wrong(&client, &installation).await, None);
    }
}
