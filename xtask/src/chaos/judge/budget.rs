//! How many targets of a store may be withdrawn. What a leader counted is known to the next only as far as statuses tell it, so each
//! leader's count is held against the limit by itself; and since a run lasts less than an hour, nothing is forgotten of it.

use std::collections::HashMap;

use super::{Findings, Rule, past::Past, secrets::Seen, wanted::Wanted};
use crate::chaos::{
    action::Key,
    history::{Kind, text, texts},
};

/// A limit below this holds nothing.
const FLOOR: usize = 10;

const CONFIRM: &str = "okms-operator.io/confirm-withdrawal";

/// What was withdrawn of each store, by the number of the leader.
#[derive(Default)]
pub(super) struct Budget(HashMap<(usize, Kind, Key), usize>);

impl Budget {
    /// One more was withdrawn.
    pub(super) fn withdrawn(&mut self, seen: &Seen<'_, '_>, (kind, store): &(Kind, Key), findings: &mut Findings) {
        let starts = || seen.past.history.starts.iter().filter(|start| **start <= seen.at());
        let count = self.0.entry((starts().count(), *kind, store.clone())).or_default();
        *count += 1;
        let count = *count;
        let Some(limit) = limit(seen, *kind, store) else { return };
        // What a person confirmed exceeds it.
        let since = starts().max().copied().unwrap_or(seen.past.history.begun);
        let stores = seen.past.between(*kind, store, since, seen.at());
        let confirmed = stores
            .iter()
            .filter_map(|store| store.object.as_deref())
            .any(|store| texts(store, "/metadata/annotations").contains_key(CONFIRM));
        if confirmed {
            return;
        }
        findings.check(Rule::OverBudget, || {
            let what =
                || format!("{count} targets of store {} were withdrawn by one leader, and {limit} may be", store.name);
            (count > limit).then(|| seen.violation(Rule::OverBudget, what()))
        });
    }
}

/// The most that a store allowed for as long as a change may go unseen.
fn limit(seen: &Seen<'_, '_>, kind: Kind, store: &Key) -> Option<usize> {
    let stores = seen.past.between(kind, store, seen.past.seen_since(seen.at()), seen.at());
    let users = users(seen.past, kind, store);
    let limits = stores.iter().filter_map(|store| store.object.as_deref()).map(|store| {
        let limit = store.pointer("/spec/maxWithdrawalsPerHour");
        if let Some(number) = limit.and_then(serde_json::Value::as_u64) {
            return usize::try_from(number).unwrap_or(usize::MAX);
        }
        let percent = text(store, "/spec/maxWithdrawalsPerHour").trim_end_matches('%').parse().unwrap_or(20);
        (users * percent).div_ceil(100)
    });
    limits.max().map(|limit| limit.max(FLOOR))
}

/// How many objects ever read from a store: it never had more targets, nor were more withdrawn of those it had.
fn users(past: &Past<'_>, kind: Kind, store: &Key) -> usize {
    let objects = past.order.iter().filter(|change| change.kind == Kind::OkmsSecret);
    let wanted = objects.filter_map(|change| change.object.as_deref()).map(Wanted::of);
    let users = wanted.filter(|wanted| super::past::store_of(wanted) == (kind, store.clone()));
    // A target that was withdrawn and came back counts once more.
    2 * users.map(|wanted| wanted.uid).collect::<std::collections::BTreeSet<_>>().len()
}
