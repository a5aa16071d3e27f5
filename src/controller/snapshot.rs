//! The state of the operator for a scrape.

use std::collections::HashMap;

use super::{
    context::Context,
    metrics::{Snapshot, StoreSnapshot},
};
use crate::api::{Reason, condition};

pub(super) fn snapshot(context: &Context) -> Snapshot {
    let mut secrets = HashMap::new();
    for object in context.all_secrets() {
        let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        if let Some(ready) = condition::find(conditions, condition::kind::READY)
            && let Some(reason) = Reason::ALL.iter().find(|reason| reason.as_str() == ready.reason)
        {
            let status = match ready.status.as_str() {
                "True" => condition::Status::True,
                "False" => condition::Status::False,
                _ => condition::Status::Unknown,
            };
            *secrets.entry((status, *reason)).or_default() += 1;
        }
    }
    let stores = context.all_stores().filter(|store| context.serves(&store.name())).map(|store| {
        let name = store.name();
        let conditions = store.status().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let ready = condition::find(conditions, condition::kind::READY).is_some_and(|ready| ready.status == "True");
        let standing = context.feed.standing(&name);
        StoreSnapshot {
            ready,
            sources: standing.as_ref().map(|standing| standing.sources.clone()).unwrap_or_default(),
            oldest_check: standing.as_ref().and_then(|standing| standing.oldest_check),
            certificate_expires: context.stores.certificate_expires(&name),
            withdrawals_held: standing.and_then(|standing| standing.held).map_or(0, |(_, count)| count),
            store: name,
        }
    });
    Snapshot { stores: stores.collect(), secrets, waiting: context.waiting() }
}
