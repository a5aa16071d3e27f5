//! Every reason that the operator gives, and what kstatus makes of it.
//!
//! Each version of each object counts, so that no state passes unseen because it was short. Where a reason is new, a test below fails
//! and says what to add here: a place in [`VERDICTS`] or [`STORE_VERDICTS`], and a state that shows it, or a place in [`SYNTHESISED`].

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use jiff::Timestamp;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use okms_operator::api::{
    Reason, StoreReason,
    condition::{self, Progress, Statement, Status},
};
use okms_sim::{Fault, FaultKind, Validity};
use serde_json::{Value, json};

use super::{
    Record, SLOW,
    Verdict::{self, Current, Failed, InProgress, Terminating},
    impatient, judge, name, raw_objects, raw_stores, reason,
};
use crate::{
    bad_input::{contents, write_contents},
    bad_store::{Elsewhere, bad_stores},
    faults,
    merges::merge,
    targets::{allow, create},
    world::{World, eventually},
};

/// What kstatus shall say of an `OkmsSecret` by the reason of its Ready condition, once that is about the present generation.
const VERDICTS: &[(Verdict, &[Reason])] = &[
    (Current, &[Reason::Synced]),
    (
        InProgress,
        &[
            Reason::Progressing,
            Reason::Suspended,
            Reason::StoreNotReady,
            Reason::WithdrawalUnconfirmed,
            Reason::TargetDrifted,
            Reason::OkmsUnavailable,
            Reason::UnexpectedAnswer,
        ],
    ),
    (
        Failed,
        &[
            Reason::InvalidSpec,
            Reason::StoreNotFound,
            Reason::AccessDenied,
            Reason::PathNotFound,
            Reason::VersionNotFound,
            Reason::NoVersion,
            Reason::Forbidden,
            Reason::VersionDeactivated,
            Reason::VersionDestroyed,
            Reason::VersionPruned,
            Reason::SecretDeleted,
            Reason::WithdrawalHeld,
            Reason::PinnedVersionReplaced,
            Reason::KeyNotFound,
            Reason::InvalidKey,
            Reason::KeyConflict,
            Reason::DecodeFailed,
            Reason::TemplateFailed,
            Reason::TooLarge,
            Reason::InvalidForType,
            Reason::EmptySource,
            Reason::TargetNotOwned,
            Reason::TargetMissing,
            Reason::TargetConflict,
            Reason::TargetRefused,
        ],
    ),
];

/// The same of a store.
const STORE_VERDICTS: &[(Verdict, &[StoreReason])] = &[
    (Current, &[StoreReason::Reachable]),
    (
        InProgress,
        &[
            StoreReason::Progressing,
            StoreReason::RateLimited,
            StoreReason::OkmsUnavailable,
            StoreReason::UnexpectedAnswer,
        ],
    ),
    (
        Failed,
        &[
            StoreReason::InvalidSpec,
            StoreReason::NotAllowed,
            StoreReason::InvalidCredential,
            StoreReason::TlsFailed,
            StoreReason::Refused,
        ],
    ),
];

/// Reasons that no state below shows. Their statuses are made by the operator's code for conditions, but by the test's hand:
/// `InvalidSpec` needs a CRD without the rules of today's.
const SYNTHESISED: &[Reason] = &[Reason::InvalidSpec];

/// The same of a store: only one of a namespace can be `NotAllowed`, and the other kind is looked at here.
const SYNTHESISED_STORES: &[StoreReason] = &[StoreReason::NotAllowed];

/// The reasons of a kind, and what is meant with each.
struct Meaning {
    all: Vec<&'static str>,
    verdicts: BTreeMap<&'static str, Verdict>,
    synthesised: Vec<&'static str>,
}

impl Meaning {
    fn of_secrets() -> Self {
        Self::of(Reason::ALL, VERDICTS, SYNTHESISED, Reason::as_str)
    }

    fn of_stores() -> Self {
        Self::of(StoreReason::ALL, STORE_VERDICTS, SYNTHESISED_STORES, StoreReason::as_str)
    }

    fn of<R: Copy>(
        all: &[R],
        verdicts: &[(Verdict, &[R])],
        synthesised: &[R],
        as_str: impl Fn(R) -> &'static str,
    ) -> Self {
        let names = |reasons: &[R]| reasons.iter().map(|reason| as_str(*reason)).collect::<Vec<_>>();
        let verdicts = verdicts.iter().flat_map(|(verdict, of)| names(of).into_iter().map(|reason| (reason, *verdict)));
        Self { all: names(all), verdicts: verdicts.collect(), synthesised: names(synthesised) }
    }

    /// What kstatus shall say of an object as it is.
    fn verdict(&self, object: &Value) -> Verdict {
        if object["metadata"]["deletionTimestamp"].is_string() {
            return Terminating;
        }
        reason(object).map_or(InProgress, |reason| self.verdicts[reason])
    }

    /// Holds each of these objects against what is meant, and fails where they do not show every reason.
    fn assert(&self, objects: &[Value]) {
        for reason in &self.all {
            let known = self.verdicts.contains_key(reason);
            assert!(known, "{reason} is new: say in VERDICTS or STORE_VERDICTS of {} what kstatus shall say", file!());
        }
        for (object, says) in objects.iter().zip(judge(objects)) {
            assert_eq!(says, self.verdict(object), "of {} with {:?}: {object}", name(object), reason(object));
        }
        let by_hand = |object: &&Value| self.synthesised.iter().any(|reason| name(object).ends_with(&by_hand(reason)));
        let shown: BTreeSet<&str> = objects.iter().filter(|object| !by_hand(object)).filter_map(reason).collect();
        let written: BTreeSet<&str> = objects.iter().filter(by_hand).filter_map(reason).collect();
        for reason in &self.all {
            match (shown.contains(reason), written.contains(reason)) {
                (false, false) => {
                    panic!("nothing shows {reason}: add a state that does to {}, or synthesise it", file!())
                }
                (true, true) => panic!("{reason} is shown by a state: it need not be synthesised in {}", file!()),
                _ => {}
            }
        }
    }
}

/// How an object is called whose status is written by hand, and which no operator looks after.
fn by_hand(reason: &str) -> String {
    reason.to_lowercase()
}

/// Writes a status by the operator's own code onto an object that no operator looks after.
async fn synthesise(api: &Api<DynamicObject>, name: &str, reason: &'static str, progress: Progress) {
    let generation = api.get(name).await.unwrap().metadata.generation.unwrap();
    let mut conditions = Vec::new();
    let statement = Statement { status: Status::False, reason, message: "as the operator would say it".to_owned() };
    condition::set_ready(&mut conditions, statement, progress, generation, Timestamp::now());
    let status = json!({"status": {"observedGeneration": generation, "conditions": conditions}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// The name of an `OkmsSecret`, its spec, and the reason that comes of it; a store that it names is one of [`other_stores`].
fn states(world: &World) -> Vec<(&'static str, Value, &'static str)> {
    let store = |name: &str| json!({"name": format!("{}-{name}", world.name)});
    // Each is as large as an annotation may be; together they are too large.
    let annotations: BTreeMap<_, _> = (0..17).map(|n| (format!("a{n}"), "x".repeat(16384))).collect();
    let mut states = vec![
        ("slow", json!({"path": "slow"}), "Progressing"),
        ("suspended", json!({"path": "db", "suspend": true}), "Suspended"),
        ("closed", json!({"path": "db", "storeRef": store("closed")}), "AccessDenied"),
        ("broken", json!({"path": "db", "storeRef": store("broken")}), "StoreNotReady"),
        ("conflict", json!({"sources": [{"path": "db"}, {"path": "db", "version": 1}]}), "KeyConflict"),
        ("decode", json!({"path": "db", "keys": [{"to": "k", "from": "user", "decode": "Base64"}]}), "DecodeFailed"),
        ("template", json!({"path": "db", "target": {"template": {"data": {"k": "{{ nope }}"}}}}), "TemplateFailed"),
        ("taken", json!({"path": "db", "target": {"name": "theirs"}}), "TargetNotOwned"),
        ("alone", merge("db", "nowhere"), "TargetMissing"),
        ("contested", merge("db", "shared"), "TargetConflict"),
        ("refused", json!({"path": "db", "target": {"annotations": annotations}}), "TargetRefused"),
    ];
    states.extend(contents().into_iter().map(|case| (case.name, case.spec, case.reason)));
    for case in faults::cases() {
        if matches!(case.name, "s403" | "s500" | "login") {
            states.push((case.name, json!({"path": case.name}), case.of_path));
            world.domain.put(case.name, json!({"v": "1"}));
            world.sim.fault(case.fault.on_path(case.name));
        }
    }
    states
}

/// Creates the stores that [`states`] need beside that of the world, and answers their names.
async fn other_stores(world: &World) -> Vec<String> {
    let stores = [
        ("closed", json!({"access": []})),
        ("broken", json!({"auth": {"clientCertificate": {"mount": "absent"}}})),
        ("held", json!({})),
    ];
    join_all(stores.map(async |(name, changes)| {
        let name = format!("{}-{name}", world.name);
        world.create_store_named(&name, changes).await;
        name
    }))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_of_an_okms_secret_is_to_kstatus_what_it_is_to_people() {
    let mut world = World::without_operator("kstatus").await;
    let record = Record::of_secrets(&world).await;
    write_contents(&world);
    // Nothing that is slow is given up instead.
    world.create_store(json!({"limits": {"timeout": "30s"}})).await;
    let stores = other_stores(&world).await;
    create(&world, "theirs", json!({})).await;
    let annotations = allow("contested")["metadata"]["annotations"].clone();
    let metadata = json!({"name": "shared", "annotations": annotations});
    create(&world, "shared", json!({"metadata": metadata, "stringData": {"user": "theirs"}})).await;
    world.domain.put("slow", json!({"v": "1"}));
    let slow = world.sim.fault(Fault::latency(SLOW * 3).on_path("slow"));
    let states = states(&world);
    for (name, spec, _) in &states {
        world.apply(name, spec.clone()).await;
    }
    // These are synced first. One more is withdrawn at once than goes without a person's consent.
    let held: Vec<String> = (0..11).map(|n| format!("held-{n:02}")).collect();
    for name in ["gone", "again", "drifted"] {
        world.domain.put(name, json!({"v": "1"}));
    }
    world.apply("gone", json!({"path": "gone"})).await;
    world.apply("again", json!({"path": "again", "version": 1})).await;
    world.apply("drifted", json!({"path": "drifted"})).await;
    for name in &held {
        world.domain.put(name, json!({"v": "1"}));
        world.apply(name, json!({"path": name, "storeRef": {"name": format!("{}-held", world.name)}})).await;
    }
    for reason in SYNTHESISED {
        let name = by_hand(reason.as_str());
        world.apply(&name, json!({"path": "db", "storeRef": {"name": "of-nobody"}})).await;
        synthesise(&raw_objects(&world), &name, reason.as_str(), reason.progress()).await;
    }
    let mut served = stores;
    served.push("nowhere".to_owned());
    world.start_with(impatient(&world, &served));
    join_all(states.iter().map(|(name, _, reason)| record.shows(name, reason))).await;
    world.sim.clear_fault(slow);
    let synced = held.iter().map(String::as_str).chain(["gone", "again", "drifted", "slow"]);
    join_all(synced.map(|name| world.synced(name, &[("v", "1")]))).await;

    world.sim.fault(Fault::status(500).on_path("drifted"));
    let edit = Patch::Merge(json!({"stringData": {"v": "edited"}}));
    world.secrets().patch("drifted", &PatchParams::default(), &edit).await.unwrap();
    // Nobody sees it gone in between.
    let frozen = world.sim.fault(Fault::new(FaultKind::FrozenReads).on_path("again"));
    world.domain.delete("again").unwrap();
    world.domain.put("again", json!({"v": "2"}));
    world.sim.clear_fault(frozen);
    world.domain.delete("gone").unwrap();
    for name in &held {
        world.domain.deactivate(name, 1).unwrap();
    }
    record.shows("drifted", "TargetDrifted").await;
    record.shows("again", "PinnedVersionReplaced").await;
    record.shows("gone", "WithdrawalUnconfirmed").await;
    record.shows("gone", "SecretDeleted").await;
    eventually("one is held", async || {
        let seen = record.all();
        seen.iter().any(|seen| reason(seen) == Some("WithdrawalHeld")).then_some(()).ok_or("none is")
    })
    .await;
    world.stop().await;

    Meaning::of_secrets().assert(&record.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_of_a_store_is_to_kstatus_what_it_is_to_people() {
    let mut world = World::without_operator("kstatus-store").await;
    let record = Record::of_stores(&world).await;
    let elsewhere = Elsewhere::of(&world).await;
    let cases = bad_stores(&elsewhere);
    let mut stores = Vec::new();
    world.domain.put("db", json!({"v": "1"}));
    world.create_store(json!({})).await;
    stores.push((world.name.clone(), "Reachable"));
    for case in &cases {
        case.create(&world).await;
        stores.push((case.store(&world), case.reason));
    }
    for case in faults::cases() {
        if matches!(case.name, "s401" | "s429" | "s503" | "login") {
            let domain = world.sim.add_domain();
            let certificate = domain.issue_client_certificate(Validity::days(30)).unwrap();
            let files = [("tls.crt", certificate.cert_pem.as_str()), ("tls.key", certificate.key_pem.as_str())];
            world.mount_files_at(case.name, &files);
            let name = format!("{}-{}", world.name, case.name);
            world.create_store_named(&name, json!({"auth": {"clientCertificate": {"mount": case.name}}})).await;
            world.sim.fault(case.fault.in_domain(domain.okms_id().parse().unwrap()));
            stores.push((name, case.of_store));
        }
    }
    let names: Vec<String> = stores.iter().map(|(name, _)| name.clone()).collect();
    for reason in SYNTHESISED_STORES {
        let name = format!("{}-{}", world.name, by_hand(reason.as_str()));
        world.create_store_named(&name, json!({})).await;
        synthesise(&raw_stores(&world), &name, reason.as_str(), reason.progress()).await;
    }
    world.start_with(impatient(&world, &names));
    join_all(stores.iter().map(|(name, reason)| record.shows(name, reason))).await;
    world.stop().await;
    Meaning::of_stores().assert(&record.all());
}
