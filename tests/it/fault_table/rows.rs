//! The rows of the table: what goes wrong, and what is expected of it in each phase.

use std::time::Duration;

use api_proxy::{Fault as ApiFault, FaultKind as ApiFaultKind, Matching, Verb};
use okms_sim::{Fault as OkmsFault, FaultKind as OkmsFaultKind, ServerCertificate};
use test_cluster::Component;

use super::cell::Cell;
use crate::{faults, proxied::ANSWER};

/// What happens to the objects of a cell while a fault comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    FirstSync,
    Rest,
    Change,
    Withdrawal,
    /// The credential of the store is replaced, in the files that are mounted.
    Rotation,
    /// The same in the Secret that the store refers to.
    RotationInSecret,
    /// The replica that leads is killed, and another one is there.
    Failover,
}

impl Phase {
    pub(crate) const ALL: [Self; 7] = [
        Self::FirstSync,
        Self::Rest,
        Self::Change,
        Self::Withdrawal,
        Self::Rotation,
        Self::RotationInSecret,
        Self::Failover,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FirstSync => "first sync",
            Self::Rest => "rest",
            Self::Change => "change",
            Self::Withdrawal => "withdrawal",
            Self::Rotation => "rotation",
            Self::RotationInSecret => "rotation in a Secret",
            Self::Failover => "failover",
        }
    }

    /// How many writes to its target an object needs for it.
    pub(crate) const fn writes(self) -> usize {
        match self {
            Self::FirstSync | Self::Change | Self::Withdrawal => 1,
            Self::Rest | Self::Rotation | Self::RotationInSecret | Self::Failover => 0,
        }
    }

    pub(crate) const fn rotates(self) -> bool {
        matches!(self, Self::Rotation | Self::RotationInSecret)
    }

    /// Whether people tell the API server of it.
    pub(crate) const fn is_told_to_kubernetes(self) -> bool {
        matches!(self, Self::FirstSync | Self::RotationInSecret)
    }
}

/// What is to be seen while the fault lasts. Whatever it is, nothing is lost, nothing is called synced that is not, and once the fault
/// has gone everything is as if it had never been.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meanwhile {
    /// All goes on.
    GoesOn,
    /// The target stays as it was, and the status says why.
    Waits(&'static str),
    /// The target stays as it was, and nothing can be said.
    Silent,
    /// The target follows, and nothing can be said.
    Untold,
    /// It cannot be looked at either.
    Unseen,
    /// Nobody leads, and OKMS is not asked.
    Leaderless,
}

/// What goes wrong.
pub(crate) enum Cause {
    /// Between the operator and the API server: faults of requests, and what becomes of the open watches.
    Api(Vec<ApiFault>, Watches),
    /// The API server refuses connections, and those that were open are gone.
    ApiDown,
    /// A process of the control plane is killed.
    Killed(Component),
    /// Between the operator and OKMS.
    Okms(OkmsFault),
    /// OKMS shows a certificate of somebody else's authority.
    OkmsTls,
    OkmsDown,
}

#[derive(Clone, Copy)]
pub(crate) enum Watches {
    Stay,
    AreCut,
    Expire,
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) cause: Cause,
    /// In the order of [`Phase::ALL`].
    pub(crate) meanwhile: [Meanwhile; Phase::ALL.len()],
    /// What the store says meanwhile; empty: that it works.
    pub(crate) store: &'static str,
}

impl Row {
    /// Whether OKMS is asked as always.
    pub(crate) const fn okms_answers(&self) -> bool {
        self.store.is_empty()
    }

    fn hangs(&self) -> bool {
        matches!(&self.cause, Cause::Okms(fault) if matches!(fault.kind, OkmsFaultKind::Latency { .. }))
    }

    /// How long OKMS may take for an answer: long where it is not to be told from a machine that is busy.
    pub(crate) fn timeout(&self) -> &'static str {
        if self.hangs() { "2s" } else { "10s" }
    }

    /// The same of the API server, which hangs without etcd.
    pub(crate) fn answer(&self) -> Duration {
        let hang = |fault: &ApiFault| matches!(fault.kind, ApiFaultKind::Hang);
        let hangs = match &self.cause {
            Cause::Api(faults, _) => faults.iter().any(hang),
            Cause::Killed(_) => true,
            Cause::ApiDown | Cause::Okms(_) | Cause::OkmsTls | Cause::OkmsDown => false,
        };
        // Twice as long as elsewhere: a list that a busy machine takes that long for is given up, and then rests for longer each time.
        if hangs { ANSWER * 2 } else { ANSWER * 10 }
    }

    /// How often a write is tried before its object waits: where somebody else's came between, that may not be so the next time.
    pub(crate) fn tries(&self) -> usize {
        let conflict = |fault: &ApiFault| {
            matches!(fault.kind, ApiFaultKind::Status { code: 409, .. }) && fault.matching == target_writes()
        };
        if matches!(&self.cause, Cause::Api(faults, _) if faults.iter().any(conflict)) { 6 } else { 1 }
    }

    /// How many statuses an object may be given, from the first to the last. While OKMS hangs, whose fault it is, is in doubt for longer.
    pub(crate) fn statuses(&self) -> usize {
        if self.hangs() { 5 } else { 3 }
    }
}

fn target_writes() -> Matching {
    Matching::writes().of("secrets")
}

/// Longer than a request to OKMS may take where it hangs.
const LONG: Duration = Duration::from_secs(6);

pub(crate) fn rows() -> Vec<Row> {
    use Meanwhile::{GoesOn, Leaderless, Silent, Untold, Waits};
    let always = [GoesOn; Phase::ALL.len()];
    let unwritten =
        [Waits("Progressing"), GoesOn, Waits("TargetDrifted"), Waits("TargetDrifted"), GoesOn, GoesOn, GoesOn];
    let mute = [Silent, GoesOn, Silent, Silent, GoesOn, Silent, Leaderless];
    let untold = [Untold, GoesOn, Untold, Untold, GoesOn, GoesOn, GoesOn];
    let targets = |fault: ApiFault| vec![fault.hitting(target_writes())];
    let statuses = |fault: ApiFault| vec![fault.hitting(Matching::writes().of("okmssecrets/status"))];
    let api = |name, faults, watches, meanwhile| Row { name, cause: Cause::Api(faults, watches), meanwhile, store: "" };
    let stay = Watches::Stay;
    let relists = ["okmssecrets", "secrets", "okmsstores", "clusterokmsstores", "namespaces"]
        .map(|of| ApiFault::status(410).hitting(Matching::verbs(&[Verb::List, Verb::Watch]).of(of)).times(2));
    let short = ApiFault::new(ApiFaultKind::CutWatch { after: 2 });
    let mut rows = vec![
        api("delay", vec![ApiFault::delay(Duration::from_millis(300))], stay, always),
        api("409 to target writes", targets(ApiFault::status(409)), stay, unwritten),
        api("410 to watches and their lists", relists.to_vec(), Watches::Expire, always),
        api("429, Retry-After, to target writes", targets(ApiFault::status_retry_after(429, 1)), stay, unwritten),
        api("500 to target writes", targets(ApiFault::status(500)), stay, unwritten),
        api("409 to status writes", statuses(ApiFault::status(409)), stay, untold),
        api("500 to status writes", statuses(ApiFault::status(500)), stay, untold),
        api("503 to everything", vec![ApiFault::status(503)], stay, mute),
        api("hang of target writes", targets(ApiFault::new(ApiFaultKind::Hang)), stay, unwritten),
        api("hang of everything", vec![ApiFault::new(ApiFaultKind::Hang)], stay, mute),
        api("watches are cut, again and again", vec![short], Watches::AreCut, always),
        api("reset before target writes", targets(ApiFault::new(ApiFaultKind::ResetBeforeEffect)), stay, unwritten),
        api("reset after target writes", targets(ApiFault::new(ApiFaultKind::ResetAfterEffect)), stay, always),
        api("reset after status writes", statuses(ApiFault::new(ApiFaultKind::ResetAfterEffect)), stay, always),
        Row { name: "API server unreachable", cause: Cause::ApiDown, meanwhile: mute, store: "" },
    ];
    let of_okms =
        |name, cause, store| Row { name, cause, meanwhile: [Waits("StoreNotReady"); Phase::ALL.len()], store };
    let down = "OkmsUnavailable";
    for (name, case) in [
        ("OKMS: 401", "s401"),
        ("OKMS: 403 in HTML", "html-403"),
        ("OKMS: 404 in HTML", "html-404"),
        ("OKMS: 429", "s429"),
        ("OKMS: 429, Retry-After", "s429-later"),
        ("OKMS: 500", "s500"),
        ("OKMS: 503, Retry-After", "s503-later"),
        ("OKMS: 502 in HTML", "html-502"),
        ("OKMS: reset", "reset-before"),
        ("OKMS: truncated", "truncated"),
    ] {
        let case = faults::cases().into_iter().find(|known| known.name == case).unwrap();
        rows.push(of_okms(name, Cause::Okms(case.fault), case.of_store));
    }
    rows.push(of_okms("OKMS: hang", Cause::Okms(OkmsFault::latency(LONG)), down));
    rows.push(of_okms("OKMS: TLS", Cause::OkmsTls, "TlsFailed"));
    rows.push(of_okms("OKMS: unreachable", Cause::OkmsDown, down));
    rows
}

/// Those for which a control plane is needed that nobody else uses.
pub(crate) fn killed() -> [Row; 2] {
    let meanwhile = Phase::ALL.map(|phase| match phase {
        Phase::Failover => Meanwhile::Leaderless,
        _ => Meanwhile::Unseen,
    });
    [("API server killed", Component::ApiServer), ("etcd killed", Component::Etcd)].map(|(name, component)| Row {
        name,
        cause: Cause::Killed(component),
        meanwhile,
        store: "",
    })
}

impl Cause {
    /// A process of the control plane is killed by whoever owns it.
    pub(crate) async fn begin(&self, cell: &Cell) {
        let (sim, proxy) = (&cell.of.world.sim, &cell.of.proxy);
        match self {
            Self::Api(faults, watches) => {
                for fault in faults {
                    proxy.fault(fault.clone());
                }
                match watches {
                    Watches::Stay => 0,
                    Watches::AreCut => proxy.cut_watches(&Matching::default()),
                    Watches::Expire => proxy.expire_watches(&Matching::default()),
                };
            }
            Self::ApiDown => proxy.stop().await,
            Self::Okms(fault) => drop(sim.fault(fault.clone())),
            Self::OkmsTls => {
                sim.with_switches(|switches| switches.server_certificate = ServerCertificate::OtherAuthority);
                // What is open was checked before.
                sim.restart().await.unwrap();
            }
            Self::OkmsDown => sim.stop().await,
            Self::Killed(_) => {}
        }
    }

    pub(crate) async fn end(&self, cell: &Cell) {
        let (sim, proxy) = (&cell.of.world.sim, &cell.of.proxy);
        match self {
            Self::Api(..) => proxy.clear_faults(),
            Self::ApiDown => proxy.restart().await.unwrap(),
            Self::Okms(_) => sim.clear_faults(),
            Self::OkmsTls => sim.with_switches(|switches| switches.server_certificate = ServerCertificate::default()),
            Self::OkmsDown => sim.restart().await.unwrap(),
            Self::Killed(_) => {}
        }
    }
}
