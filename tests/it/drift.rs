//! What people do to a target, for each policy, while OKMS answers and while it does not: what is ours is made as it was, what is not
//! ours any more is named, and until then nobody is told that all is well.

use std::time::Duration;

use api_proxy::{Fault, Matching, Verb};
use futures::{StreamExt, future::join_all, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use okms_operator::controller::{Config, health::Health};
use serde_json::{Value, json};

use crate::{
    bad_input::fails,
    proxied::Proxied,
    targets::{allow, create, edit},
    world::{World, eventually, holds, ready_of},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Owner,
    Orphan,
    Merge,
}

/// What is done to a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Deleted,
    /// Another value for the key of ours.
    Edited,
    /// Without the key of ours.
    Emptied,
    /// Without the label that the operator finds its targets by.
    Unlabelled,
    /// Without the annotation that says whose it is.
    Stripped,
    /// Without its owner reference.
    Disowned,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    policy: Policy,
    harm: Harm,
}

/// What is said of an object, for which reason and with which words.
type Told = (&'static str, Vec<String>);

impl Case {
    fn all() -> Vec<Self> {
        use Harm::{Deleted, Disowned, Edited, Emptied, Stripped, Unlabelled};
        let policies = [Policy::Owner, Policy::Orphan, Policy::Merge];
        let harms = [Deleted, Edited, Emptied, Unlabelled, Stripped, Disowned];
        let cases = policies.into_iter().flat_map(|policy| harms.map(|harm| Self { policy, harm }));
        // Only one of the policies has owner references.
        cases.filter(|case| case.harm != Disowned || case.policy == Policy::Owner).collect()
    }

    /// Of the object, its target, and its path in OKMS.
    fn name(self) -> String {
        format!("{:?}-{:?}", self.policy, self.harm).to_lowercase()
    }

    fn merges(self) -> bool {
        self.policy == Policy::Merge
    }

    async fn make(self, world: &World) {
        let name = self.name();
        world.domain.put(&name, json!({"v": "1"}));
        if self.merges() {
            self.make_theirs(world).await;
        }
        world.apply(&name, json!({"path": name, "target": {"creationPolicy": format!("{:?}", self.policy)}})).await;
    }

    /// The Secret of somebody else that is merged into.
    async fn make_theirs(self, world: &World) {
        let annotations = allow(&self.name())["metadata"]["annotations"].clone();
        let metadata = json!({"name": self.name(), "annotations": annotations});
        create(world, &self.name(), json!({"metadata": metadata, "stringData": {"theirs": "x"}})).await;
    }

    async fn harm(self, world: &World) {
        let name = self.name();
        let secret = world.secret(&name).await.unwrap();
        let patch = match self.harm {
            Harm::Deleted => {
                world.secrets().delete(&name, &DeleteParams::default()).await.unwrap();
                return;
            }
            Harm::Edited => json!({"stringData": {"v": "edited"}}),
            Harm::Emptied => json!({"data": {"v": null}}),
            Harm::Unlabelled => json!({"metadata": {"labels": {"okms-operator.io/managed": null}}}),
            Harm::Stripped => {
                let says_whose = |key: &&String| key.starts_with("merged.") || *key == "okms-operator.io/owner";
                let key = secret.annotations().keys().find(says_whose).expect("it says whose it is");
                json!({"metadata": {"annotations": { key: null }}})
            }
            Harm::Disowned => json!({"metadata": {"ownerReferences": null}}),
        };
        edit(world, &name, "somebody", patch).await;
    }

    /// What only a person can mend.
    fn is_left_to_people(self) -> Option<Told> {
        let name = self.name();
        match (self.policy, self.harm) {
            (Policy::Orphan, Harm::Stripped) => {
                Some(("TargetNotOwned", vec![format!("kubectl annotate secret {name} okms-operator.io/allow={name}")]))
            }
            (Policy::Merge, Harm::Deleted) => Some((
                "TargetMissing",
                vec![format!("no Secret {name} to merge into"), "okms-operator.io/allow".into()],
            )),
            (Policy::Merge, Harm::Edited) => {
                Some(("TargetConflict", vec!["data.v".into(), "belong to somebody".into(), "keys or prefix".into()]))
            }
            _ => None,
        }
    }

    /// What is said while there is no OKMS to mend it from, at the latest once the last answers are too old to be believed.
    fn during_an_outage(self) -> Told {
        match self.harm {
            Harm::Edited | Harm::Emptied => ("TargetDrifted", vec!["cannot be repaired now".into()]),
            Harm::Deleted | Harm::Unlabelled | Harm::Stripped | Harm::Disowned => {
                self.is_left_to_people().unwrap_or(("StoreNotReady", vec!["the store is not ready".into()]))
            }
        }
    }

    /// What a person does about it.
    async fn mend(self, world: &World) {
        match (self.policy, self.harm) {
            (Policy::Orphan, Harm::Stripped) => edit(world, &self.name(), "somebody", allow(&self.name())).await,
            (Policy::Merge, Harm::Deleted) => self.make_theirs(world).await,
            (Policy::Merge, Harm::Edited) => {
                edit(world, &self.name(), "somebody", json!({"data": {"v": null}})).await;
            }
            _ => {}
        }
    }

    /// Waits until the Secret is in every respect what it was.
    async fn is_whole(self, world: &World) {
        let name = self.name();
        world.ready(&name, "True", "Synced").await;
        let uid = world.object(&name).await.uid().unwrap();
        eventually(&format!("{name} is whole"), async || {
            let secret = world.secret(&name).await.ok_or("it is not there")?;
            self.look(&secret, &uid)
        })
        .await;
        world.ready(&name, "True", "Synced").await;
    }

    fn look(self, secret: &Secret, uid: &str) -> Result<(), &'static str> {
        let annotation = |key: &str| secret.annotations().get(key).map(String::as_str);
        let data: &[_] = if self.merges() { &[("theirs", "x"), ("v", "1")] } else { &[("v", "1")] };
        if !holds(secret, data) {
            return Err("it holds other data");
        }
        if secret.labels().get("okms-operator.io/managed").is_none_or(|value| value != "true") {
            return Err("it lacks its label");
        }
        if self.merges() {
            let ours = annotation(&format!("merged.okms-operator.io/{uid}"));
            let ours: Value = ours.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            return if ours["owner"] == self.name() { Ok(()) } else { Err("it does not say who merges into it") };
        }
        if annotation("okms-operator.io/owner") != Some(&self.name()) {
            return Err("it does not say whose it is");
        }
        if annotation("okms-operator.io/source").is_none_or(|source| !source.contains(&self.name())) {
            return Err("it does not say what it was made from");
        }
        let owners: Vec<&str> = secret.owner_references().iter().map(|owner| owner.uid.as_str()).collect();
        let expected: &[&str] = if self.policy == Policy::Owner { &[uid] } else { &[] };
        if owners == expected { Ok(()) } else { Err("it has not the owner that it should have") }
    }
}

async fn told(world: &World, case: Case, (reason, words): Told) {
    fails(world, &case.name(), reason, &words.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn made(name: &str) -> World {
    let world = World::new(name).await;
    join_all(Case::all().into_iter().map(|case| case.make(&world))).await;
    join_all(Case::all().into_iter().map(|case| case.is_whole(&world))).await;
    world
}

/// Whatever needs nobody becomes whole; the rest is told, and becomes whole when somebody does what was said.
async fn are_mended(world: &World) {
    join_all(Case::all().into_iter().map(async |case| {
        if let Some(said) = case.is_left_to_people() {
            told(world, case, said).await;
            case.mend(world).await;
        }
        case.is_whole(world).await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_target_is_undone_or_told() {
    let world = made("drift-up").await;
    let reads = world.sim.counters().data_reads;
    join_all(Case::all().into_iter().map(|case| case.harm(&world))).await;
    are_mended(&world).await;
    let untouched = |case: &Case| matches!(case.harm, Harm::Unlabelled | Harm::Disowned) && !case.merges();
    let most = 2 * Case::all().into_iter().filter(|case| !untouched(case)).count();
    let read = world.sim.counters().data_reads - reads;
    assert!(read <= most as u64, "{read} reads of data for {most} that needed one");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_target_during_an_outage_is_told_and_undone_after_it() {
    let world = made("drift-down").await;
    world.sim.stop().await;
    join_all(Case::all().into_iter().map(|case| case.harm(&world))).await;
    join_all(Case::all().into_iter().map(|case| told(&world, case, case.during_an_outage()))).await;
    // That stays so.
    let changes = crate::kept::History::of(&world).await;
    world.store_ready("False", "OkmsUnavailable").await;
    join_all(Case::all().into_iter().map(|case| told(&world, case, case.during_an_outage()))).await;
    for case in Case::all() {
        changes.assert_never_ready(&case.name()).await;
    }
    world.sim.restart().await.unwrap();
    are_mended(&world).await;
}

/// A list that starts anew shows what there is, and says nothing of what has gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_only_its_watch_was_away_is_made_again() {
    let mut of = Proxied::new("unseen").await;
    of.world.create_store(json!({})).await;
    // Long, so that no check finds it.
    of.start(Config { refresh_interval: Duration::from_mins(10), ..of.world.config() }, Health::default());
    of.world.domain.put("db", json!({"v": "1"}));
    of.world.apply("db", json!({"path": "db"})).await;
    let before = of.world.synced("db", &[("v", "1")]).await;

    let watch = Matching::verbs(&[Verb::List, Verb::Watch]).of("secrets");
    let gone = of.proxy.fault(Fault::status(410).hitting(watch.clone()));
    of.proxy.cut_watches(&watch);
    of.proxy.clear_log();
    of.world.secrets().delete("db", &DeleteParams::default()).await.unwrap();
    of.proxy.wait_until(|records| records.iter().filter(|record| record.is(&watch)).count() >= 2).await;
    of.proxy.clear_fault(gone);
    eventually("it is there again", async || match of.world.secret("db").await {
        Some(secret) if secret.metadata.uid != before.metadata.uid => Ok(()),
        other => Err(other.map(|secret| secret.metadata.uid)),
    })
    .await;
    of.world.synced("db", &[("v", "1")]).await;
}

/// What changed is told of in the first page of a list, long before the last has come.
#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_a_watch_was_away_is_seen_though_its_list_comes_in_pages() {
    /// As many as a page has.
    const OTHERS: usize = 500;
    let mut of = Proxied::new("pages").await;
    // A list that is slow is not to be given up.
    of.answer = Duration::from_mins(1);
    of.world.create_store(json!({})).await;
    of.start(Config { refresh_interval: Duration::from_mins(10), ..of.world.config() }, Health::default());
    of.world.domain.put("db", json!({"v": "1"}));
    of.world.apply("a-db", json!({"path": "db"})).await;
    of.world.synced("a-db", &[("v", "1")]).await;
    let world = &of.world;
    let suspended = |n| async move { world.apply(&format!("z-{n}"), json!({"path": "none", "suspend": true})).await };
    stream::iter(0..OTHERS).map(suspended).buffer_unordered(16).collect::<Vec<_>>().await;
    eventually("all have been looked at", async || {
        let all = world.objects().list(&ListParams::default()).await.unwrap().items;
        let told = all.iter().filter(|object| ready_of(object).is_some()).count();
        if told == OTHERS + 1 { Ok(()) } else { Err(told) }
    })
    .await;

    let of_objects = |matching: Matching| matching.of("okmssecrets");
    let page = Fault::delay(Duration::from_secs(1)).hitting(of_objects(Matching::verbs(&[Verb::List])));
    of.proxy.fault(page);
    of.proxy.clear_log();
    of.proxy.expire_watches(&of_objects(Matching::watches()));
    let labelled = json!({"path": "db", "target": {"labels": {"seen": "yes"}}});
    of.world.apply("a-db", labelled).await;
    eventually("the change is seen", async || match of.world.secret("a-db").await.unwrap().labels().get("seen") {
        Some(_) => Ok(()),
        None => Err("it is not"),
    })
    .await;
    let lists = of.count(&of_objects(Matching::verbs(&[Verb::List])), |_| true);
    assert!(lists >= 2, "the list came in {lists}");
}
