//! An object from its creation to its end, while the operator comes and goes and OKMS takes its time: who waits for it is told that it
//! is done when its Secret is in step, and not before.

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use okms_sim::Fault;
use serde_json::{Value, json};

use super::{
    Record, SLOW,
    Verdict::{self, Current, InProgress, Terminating},
    impatient, judge, raw, raw_objects, raw_stores,
};
use crate::{
    cluster::{self, Output},
    world::{World, eventually, holds},
};

/// What was so, an object as it was then, and what kstatus shall say of it.
#[derive(Default)]
struct Moments(Vec<(&'static str, Value, Verdict)>);

impl Moments {
    fn add(&mut self, what: &'static str, object: Value, verdict: Verdict) {
        self.0.push((what, object, verdict));
    }

    /// The `OkmsSecret` `db` and the store, as they are.
    async fn both(&mut self, what: &'static str, world: &World, verdict: Verdict) {
        self.add(what, raw(&raw_objects(world), "db").await, verdict);
        self.add(what, raw(&raw_stores(world), &world.name).await, verdict);
    }

    fn assert(self) {
        let objects: Vec<Value> = self.0.iter().map(|(_, object, _)| object.clone()).collect();
        for ((what, object, verdict), says) in self.0.into_iter().zip(judge(&objects)) {
            assert_eq!(says, verdict, "{what}: {object}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_current_only_while_what_it_asks_for_is_done() {
    let mut world = World::without_operator("kstatus-life").await;
    let (secrets, stores) = (Record::of_secrets(&world).await, Record::of_stores(&world).await);
    let mut moments = Moments::default();
    world.domain.put("db", json!({"v": "1"}));
    world.domain.put("other", json!({"v": "2"}));
    world.create_store(json!({})).await;
    world.apply("db", json!({"path": "db"})).await;
    moments.both("made, while there is no operator", &world, InProgress).await;
    assert!(moments.0.iter().all(|(_, object, _)| object["status"]["observedGeneration"] == -1));

    let slow = world.sim.fault(Fault::latency(SLOW));
    world.start_with(impatient(&world, &[]));
    moments.add("the first sync takes long", secrets.shows("db", "Progressing").await, InProgress);
    moments.add("the first answer takes long", stores.shows(&world.name, "Progressing").await, InProgress);
    world.sim.clear_fault(slow);
    world.synced("db", &[("v", "1")]).await;
    world.store_ready("True", "Reachable").await;
    moments.both("done", &world, Current).await;

    world.stop().await;
    secrets.forget();
    stores.forget();
    world.apply("db", json!({"path": "other"})).await;
    world.patch_store(json!({"spec": {"limits": {"timeout": "6s"}}})).await;
    moments.both("changed, while there is no operator", &world, InProgress).await;
    let copy = copy(&raw_objects(&world), "db").await;
    moments.add("made with the status of another", copy, InProgress);

    let slow = world.sim.fault(Fault::latency(SLOW));
    world.start_with(impatient(&world, &[]));
    moments.add("the sync of a changed spec takes long", secrets.shows("db", "Progressing").await, InProgress);
    moments.add("the answer to a changed spec takes long", stores.shows(&world.name, "Progressing").await, InProgress);
    world.sim.clear_fault(slow);
    world.synced("db", &[("v", "2")]).await;
    world.store_ready("True", "Reachable").await;
    moments.both("done as changed", &world, Current).await;

    world.apply("db", json!({"path": "other", "suspend": true})).await;
    world.ready("db", "Unknown", "Suspended").await;
    moments.add("suspended", raw(&raw_objects(&world), "db").await, InProgress);
    world.apply("db", json!({"path": "other"})).await;
    world.synced("db", &[("v", "2")]).await;
    moments.both("resumed", &world, Current).await;

    for (api, name) in [(raw_objects(&world), "db"), (raw_stores(&world), world.name.as_str())] {
        moments.add("deleted, while somebody holds it", held_while_deleted(&api, name).await, Terminating);
    }
    moments.assert();
}

/// Makes another object of one that there is, as with kubectl get -o yaml, another name, and kubectl create.
async fn copy(api: &Api<DynamicObject>, name: &str) -> Value {
    let mut copy = api.get(name).await.unwrap();
    copy.metadata.name = Some(format!("{name}-copy"));
    copy.metadata.uid = None;
    copy.metadata.resource_version = None;
    copy.metadata.managed_fields = None;
    serde_json::to_value(api.create(&PostParams::default(), &copy).await.unwrap()).unwrap()
}

/// Deletes an object that somebody else's finalizer holds; answers it as it is then, and lets it go.
async fn held_while_deleted(api: &Api<DynamicObject>, name: &str) -> Value {
    let finalizers = |list: Value| Patch::Merge(json!({"metadata": {"finalizers": list}}));
    api.patch(name, &PatchParams::default(), &finalizers(json!(["example.com/hold"]))).await.unwrap();
    api.delete(name, &DeleteParams::default()).await.unwrap();
    let held = raw(api, name).await;
    api.patch(name, &PatchParams::default(), &finalizers(Value::Null)).await.unwrap();
    eventually(&format!("{name} is gone"), async || match api.get_opt(name).await.unwrap() {
        None => Ok(()),
        Some(_) => Err("it is there"),
    })
    .await;
    held
}

/// Runs `kubectl wait`. What may not come true is given two seconds, which is what such a test costs.
async fn wait(world: &World, object: &str, condition: &str, seconds: u8) -> Output {
    let arguments = [
        format!("--namespace={}", world.name),
        format!("--for=condition={condition}"),
        format!("--timeout={seconds}s"),
        object.to_owned(),
    ];
    let wait = move || {
        let arguments: Vec<&str> = ["wait"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        cluster::kubectl(cluster::shared(), &arguments, "")
    };
    tokio::task::spawn_blocking(wait).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_wait_returns_when_it_is_so_and_gives_up_when_it_is_not() {
    let mut world = World::without_operator("kstatus-wait").await;
    let gives_up = |output: Output| {
        let said = output.failed();
        assert!(said.contains("timed out waiting for the condition"), "{said}");
    };
    world.create_store(json!({})).await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    gives_up(wait(&world, "okmssecret/db", "Ready", 2).await);

    world.start();
    wait(&world, "okmssecret/db", "Ready", 60).await.succeeded();
    assert!(holds(&world.secret("db").await.unwrap(), &[("v", "1")]), "kubectl did not wait for the Secret");
    wait(&world, &format!("clusterokmsstore/{}", world.name), "Ready", 60).await.succeeded();

    world.apply("none", json!({"path": "no/where"})).await;
    wait(&world, "okmssecret/none", "Stalled", 60).await.succeeded();
    wait(&world, "okmssecret/none", "Ready=false", 60).await.succeeded();
    let never = tokio::join!(wait(&world, "okmssecret/none", "Ready", 2), wait(&world, "okmssecret/db", "Stalled", 2));
    gives_up(never.0);
    gives_up(never.1);

    // Ready=True is there, but of the spec as it was.
    world.stop().await;
    world.apply("db", json!({"path": "no/where"})).await;
    gives_up(wait(&world, "okmssecret/db", "Ready", 2).await);
}
