//! Objects that are deleted and made again in the midst of their work: what there is in the end is that of the object that there is.

use std::time::Duration;

use futures::future::join_all;
use kube::ResourceExt;
use okms_sim::{Fault, Operation};
use serde_json::json;

use crate::{
    targets::{allow, create},
    world::{World, eventually, holds},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_made_again_while_it_syncs_gets_its_secret() {
    let world = World::new("again").await;
    for n in 0..10 {
        world.domain.put(&format!("old/{n}"), json!({"v": "old"}));
        world.domain.put(&format!("new/{n}"), json!({"v": "new"}));
    }
    // Each is deleted at another moment of its first sync.
    for n in 0..10 {
        let name = format!("db-{n}");
        world.apply(&name, json!({"path": format!("old/{n}")})).await;
        if n % 2 == 0 {
            world.after_checks(n / 2).await;
        }
        world.delete(&name).await;
        world.apply(&name, json!({"path": format!("new/{n}")})).await;
    }
    for n in 0..10 {
        let name = format!("db-{n}");
        world.synced(&name, &[("v", "new")]).await;
        let uid = world.object(&name).await.uid();
        eventually(&format!("{name} belongs to the new object"), async || {
            let secret = world.secret(&name).await.ok_or("it is gone")?;
            let owners: Vec<_> = secret.owner_references().iter().map(|owner| Some(owner.uid.clone())).collect();
            if owners == [uid.clone()] && holds(&secret, &[("v", "new")]) { Ok(()) } else { Err("it does not") }
        })
        .await;
    }
    // The old ones are forgotten: nothing asks for their paths any more.
    let before = world.sim.counters();
    world.after_checks(30).await;
    let after = world.sim.counters();
    for n in 0..10 {
        let path = format!("old/{n}");
        assert!(after.on(&path) <= before.on(&path), "{path} is still checked");
    }
}

/// An `OkmsSecret` that is deleted and made again while OKMS takes its time to answer.
#[derive(Debug, Clone, Copy)]
struct Again {
    policy: &'static str,
    /// Its Secret was there before, and what is under way is the next version.
    synced: bool,
    /// What is made again reads something else.
    changed: bool,
    /// What OKMS takes its time for.
    slow: Operation,
}

impl Again {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for policy in ["Owner", "Orphan", "Merge"] {
            for (synced, changed) in [(false, false), (false, true), (true, false), (true, true)] {
                for slow in [Operation::GetSecretsMetadata, Operation::GetSecretRequest] {
                    all.push(Self { policy, synced, changed, slow });
                }
            }
        }
        all
    }

    fn name(self) -> String {
        let (before, then) =
            (if self.synced { "synced" } else { "fresh" }, if self.changed { "other" } else { "same" });
        format!("{}-{before}-{then}-{:?}", self.policy, self.slow).to_lowercase()
    }

    fn path(self, changed: bool) -> String {
        format!("{}/{}", if changed { "other" } else { "one" }, self.name())
    }

    async fn apply(self, world: &World, changed: bool) {
        let spec = json!({"path": self.path(changed), "target": {"creationPolicy": self.policy}});
        world.apply(&self.name(), spec).await;
    }

    /// Deletes the object and makes it again while a request of it is under way.
    async fn happen(self, world: &World) {
        world.domain.put(&self.path(false), json!({"one": "1"}));
        world.domain.put(&self.path(true), json!({"other": "1"}));
        if self.policy == "Merge" {
            let annotations = allow(&self.name())["metadata"]["annotations"].clone();
            let metadata = json!({"name": self.name(), "annotations": annotations});
            create(world, &self.name(), json!({"metadata": metadata, "stringData": {"theirs": "x"}})).await;
        }
        if self.synced {
            self.apply(world, false).await;
            world.ready(&self.name(), "True", "Synced").await;
        }
        let slow = Fault::latency(Duration::from_millis(1500)).on_path(&self.path(false)).on(&[self.slow]);
        let slow = world.sim.fault(slow);
        let asked = || world.sim.counters().of_on(self.slow.as_str(), &self.path(false));
        let before = asked();
        if self.synced {
            world.domain.put(&self.path(false), json!({"one": "2"}));
        } else {
            self.apply(world, false).await;
        }
        eventually(&format!("the sync of {} is under way", self.name()), async || {
            if asked() > before { Ok(()) } else { Err("it is not") }
        })
        .await;
        world.delete(&self.name()).await;
        self.apply(world, self.changed).await;
        world.sim.clear_fault(slow);
    }

    /// Waits until the Secret is that of the object as it is now, and of nothing else.
    async fn ends_well(self, world: &World) {
        let (name, uid) = (self.name(), world.object(&self.name()).await.uid().unwrap());
        let ours = if self.changed { ("other", "1") } else { ("one", if self.synced { "2" } else { "1" }) };
        let data: &[_] = if self.policy == "Merge" { &[("theirs", "x"), ours] } else { &[ours] };
        eventually(&format!("{name} is that of its new object"), async || {
            let secret = world.secret(&name).await.ok_or("it is not there")?;
            let owners: Vec<&str> = secret.owner_references().iter().map(|owner| owner.uid.as_str()).collect();
            let expected: &[&str] = if self.policy == "Owner" { &[&uid] } else { &[] };
            let merged: Vec<&String> = secret.annotations().keys().filter(|key| key.starts_with("merged.")).collect();
            let share = format!("merged.okms-operator.io/{uid}");
            let shares: &[&String] = if self.policy == "Merge" { &[&share] } else { &[] };
            if !holds(&secret, data) {
                return Err("it holds other data");
            }
            if owners == expected && merged == shares { Ok(()) } else { Err("it names others") }
        })
        .await;
        world.ready(&name, "True", "Synced").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_made_again_while_okms_is_asked_for_it_is_served_as_it_is_now() {
    let world = World::new("again-slow").await;
    join_all(Again::all().into_iter().map(|again| again.happen(&world))).await;
    join_all(Again::all().into_iter().map(|again| again.ends_well(&world))).await;
    // What nobody reads any more is not checked any more.
    let counters = world.sim.counters();
    world.after_checks(60).await;
    let after = world.sim.counters();
    for again in Again::all() {
        let (path, other) = (again.path(again.changed), again.path(!again.changed));
        assert_eq!(after.on(&other), counters.on(&other), "{other} is checked for nobody");
        assert!(after.on(&path) > counters.on(&path), "{path} is not checked");
    }
    join_all(Again::all().into_iter().map(|again| again.ends_well(&world))).await;
}
