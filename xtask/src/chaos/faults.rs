//! The faults of a plan: of OKMS, of the API server, and of the operator's processes. At most one of each party at a time, and each ends.

use std::time::Duration;

use api_proxy::{Fault, FaultKind, Matching};
use serde_json::{Value, json};

use super::{
    action::{Action, Step},
    dice::Dice,
    world,
};

const OKMS_EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(9));
const OKMS_LASTS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
const API_EVERY: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(12));

/// The shortest are shorter than a retry, the longest longer than the lease.
const API_LASTS: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(7));
const PROCESS_EVERY: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(15));

/// How long no operator runs, or none moves.
const PROCESS_LASTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(8));

/// Two of three plans kill processes of the control plane, and no more often than this: it takes a while to start.
const PLANE_EVERY: (Duration, Duration) = (Duration::from_mins(2), Duration::from_mins(4));
const PLANE_LASTS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(6));

/// Faults come in waves. Between them only changes happen, so that it shows whether these arrive in time.
const WAVE: Duration = Duration::from_secs(25);
const LULL: Duration = Duration::from_secs(50);

/// Each party has dice of its own.
pub(super) fn plan(dice: &Dice, length: Duration) -> Vec<Step> {
    let mut steps = of_party(&mut dice.fork("okms"), length, OKMS_EVERY, OKMS_LASTS, okms_fault);
    steps.extend(of_party(&mut dice.fork("api"), length, API_EVERY, API_LASTS, api_fault));
    steps.extend(of_party(&mut dice.fork("process"), length, PROCESS_EVERY, PROCESS_LASTS, process_fault));
    let mut plane = dice.fork("plane");
    if plane.percent(67) {
        steps.extend(of_plane(&mut plane, length));
    }
    steps
}

/// At any time, also while nothing else goes wrong.
fn of_plane(dice: &mut Dice, length: Duration) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = dice.between(PLANE_EVERY.0 / 4, PLANE_EVERY.1 / 2);
    while at < length {
        let action = if dice.percent(50) { Action::KillApiServer } else { Action::KillEtcd };
        let until = (at + dice.between(PLANE_LASTS.0, PLANE_LASTS.1)).min(length);
        steps.push(Step { at, action });
        steps.push(Step { at: until, action: Action::Revive });
        at = until + dice.between(PLANE_EVERY.0, PLANE_EVERY.1);
    }
    steps
}

/// One fault after the other: each begins, lasts and ends before the next.
fn of_party(
    dice: &mut Dice,
    length: Duration,
    every: (Duration, Duration),
    lasts: (Duration, Duration),
    fault: fn(&mut Dice, u32) -> (Action, Action),
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = dice.between(every.0, every.1);
    let mut id = 0;
    while at < length {
        let wave = (WAVE + LULL) * u32::try_from(at.as_secs() / (WAVE + LULL).as_secs()).unwrap_or(u32::MAX);
        if at >= wave + WAVE {
            at = wave + WAVE + LULL + dice.between(Duration::ZERO, every.0);
            continue;
        }
        id += 1;
        let until = (at + dice.between(lasts.0, lasts.1)).min(length).min(wave + WAVE);
        let (begins, ends) = fault(dice, id);
        steps.push(Step { at, action: begins });
        steps.push(Step { at: until, action: ends });
        at = until + dice.between(every.0, every.1);
    }
    steps
}

fn process_fault(dice: &mut Dice, _: u32) -> (Action, Action) {
    match dice.below(12) {
        0..4 => (Action::Kill, Action::Start),
        4 => (Action::KillStandby, Action::Start),
        5..7 => (Action::Terminate, Action::Start),
        _ => (Action::Pause, Action::Continue),
    }
}

fn api_fault(dice: &mut Dice, id: u32) -> (Action, Action) {
    let ends = Action::ApiFaultEnds { id };
    match dice.below(12) {
        0 => return (Action::CutWatches, ends),
        1 => return (Action::ExpireWatches, ends),
        _ => {}
    }
    let kinds = [
        (3, FaultKind::Status { code: 500, retry_after: None }),
        (2, FaultKind::Status { code: 503, retry_after: None }),
        (2, FaultKind::Status { code: 429, retry_after: Some(1) }),
        (2, FaultKind::Status { code: 409, retry_after: None }),
        (2, FaultKind::Hang),
        (2, FaultKind::ResetBeforeEffect),
        (4, FaultKind::ResetAfterEffect),
        (3, FaultKind::Delay(Duration::from_millis(800))),
        (2, FaultKind::Delay(Duration::from_secs(5))),
        (2, FaultKind::CutWatch { after: 1 }),
        (1, FaultKind::ExpireWatch { after: 1 }),
    ];
    let weights: Vec<_> = kinds.iter().map(|(weight, kind)| (*weight, kind)).collect();
    let kind = dice.weighted(&weights).cloned().unwrap_or(FaultKind::ResetBeforeEffect);
    let matching = match dice.below(8) {
        0 | 1 => Matching::default(),
        2 => Matching::reads(),
        3 => Matching::writes(),
        4 => Matching::default().of("okmssecrets/status"),
        5 => Matching::default().of("leases"),
        _ => Matching::writes().of("secrets"),
    };
    // What is refused as a conflict is a write.
    let matching = if matches!(kind, FaultKind::Status { code: 409, .. }) { Matching::writes() } else { matching };
    let share = dice.weighted(&[(3, 1.0), (2, 0.5), (1, 0.2)]).unwrap_or(1.0);
    let fault = Fault::new(kind).hitting(matching).share(share);
    (Action::ApiFault { id, fault }, ends)
}

fn okms_fault(dice: &mut Dice, id: u32) -> (Action, Action) {
    if dice.percent(15) {
        return (Action::OkmsStops, Action::OkmsReturns);
    }
    let html = json!({"answer": {
        "status": 404, "headers": {"content-type": "text/html"}, "body": "<html>no such page</html>",
    }});
    let empty = json!({"answer": {
        "status": 404, "headers": {"content-type": "application/json"}, "body": r#"{"errors":[]}"#,
    }});
    let kinds = [
        (3, json!({"status": {"status": 503}})),
        (2, json!({"status": {"status": 500}})),
        (2, json!({"status": {"status": 429, "retryAfter": "2"}})),
        (1, json!({"status": {"status": 401}})),
        (1, json!({"status": {"status": 403}})),
        // Longer than the store's time limit: it hangs.
        (2, json!({"latency": {"milliseconds": 30_000}})),
        (2, json!({"latency": {"milliseconds": 700}})),
        (1, json!({"slowBody": {"milliseconds": 3_000}})),
        (2, json!("resetBeforeEffect")),
        (1, json!("resetAfterEffect")),
        (2, json!("truncatedBody")),
        (1, json!("htmlBadGateway")),
        (2, json!("domainNotFound")),
        (2, json!("frozenReads")),
        (2, json!({"staleReads": {"versionsBack": 1}})),
        (2, html),
        (2, empty),
    ];
    let weights: Vec<_> = kinds.iter().map(|(weight, kind)| (*weight, kind)).collect();
    let kind = dice.weighted(&weights).cloned().unwrap_or(Value::Null);
    let path = match dice.below(4) {
        0 | 1 => Value::Null,
        2 => json!("team/*"),
        _ => json!(world::some_path(dice)),
    };
    let fault = json!({"kind": kind, "path": path});
    (Action::OkmsFault { id, fault }, Action::OkmsFaultEnds { id })
}
