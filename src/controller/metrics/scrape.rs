//! What is counted only when somebody looks: the state of stores and objects at the moment of a scrape.
//!
//! A [`Snapshot`] is the whole of it, so that a store or a reason that is gone leaves no series behind, and no loop has to keep
//! gauges up to date.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Error},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::StoreLabel;
use crate::{
    api::{Reason, condition::Status},
    model::StoreName,
};

/// The state of one operator.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub stores: Vec<StoreSnapshot>,
    /// `OkmsSecret`s by the status and the reason of their `Ready` condition.
    pub secrets: HashMap<(Status, Reason), usize>,
    /// Objects that wait for their turn to be reconciled.
    pub waiting: usize,
}

/// The state of one store.
#[derive(Debug, Clone)]
pub struct StoreSnapshot {
    pub store: StoreName,
    pub ready: bool,
    /// How many sources are in which state, by the name that a status shows: `Active`, `Deactivated`, …
    pub sources: BTreeMap<&'static str, usize>,
    /// How long ago the source whose good check is the oldest was checked; absent without sources.
    pub oldest_check: Option<Duration>,
    /// When the client certificate in use ends; absent for other credentials.
    pub certificate_expires: Option<Timestamp>,
    pub withdrawals_held: usize,
}

type Take = dyn Fn() -> Snapshot + Send + Sync;

/// Where the snapshot comes from, once there is somebody to ask.
#[derive(Clone, Default)]
pub(super) struct Scrape(Arc<RwLock<Option<Box<Take>>>>);

impl Scrape {
    pub(super) fn set(&self, take: Box<Take>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(take);
    }

    fn take(&self) -> Option<Snapshot> {
        let take = self.0.read().unwrap_or_else(PoisonError::into_inner);
        take.as_ref().map(|take| take())
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    store: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SecretLabels {
    ready: &'static str,
    reason: &'static str,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let Some(Snapshot { stores, secrets, waiting }) = self.take() else { return Ok(()) };
        gauge(
            &mut encoder,
            "okms_operator_reconciles_waiting",
            "Objects that wait for their turn to be reconciled.",
            None,
            &count(waiting),
        )?;
        gauges(
            &mut encoder,
            "okms_secrets",
            "OkmsSecrets by the status and the reason of their Ready condition.",
            None,
            secrets.iter().map(|((status, reason), objects)| {
                (SecretLabels { ready: status.as_str(), reason: reason.as_str() }, count(*objects))
            }),
        )?;
        gauges(
            &mut encoder,
            "okms_store_ready",
            "Whether the store works: 1 if its Ready condition is True, else 0.",
            None,
            stores.iter().map(|of| (StoreLabel::of(&of.store), i64::from(of.ready))),
        )?;
        gauges(
            &mut encoder,
            "okms_sources",
            "Paths that are watched in the store, pinned and not, by the state of the version that they mean.",
            None,
            stores.iter().flat_map(|of| {
                of.sources
                    .iter()
                    .map(|(state, sources)| (SourceLabels { store: of.store.full(), state }, count(*sources)))
            }),
        )?;
        gauges(
            &mut encoder,
            "okms_source_age",
            "Time since the last good check of the source that waits for one the longest.",
            Some(&Unit::Seconds),
            stores.iter().filter_map(|of| Some((StoreLabel::of(&of.store), of.oldest_check?.as_secs_f64()))),
        )?;
        gauges(
            &mut encoder,
            "okms_certificate_expiry_timestamp",
            "When the client certificate in use ends, in seconds since 1970.",
            Some(&Unit::Seconds),
            stores.iter().filter_map(|of| Some((StoreLabel::of(&of.store), of.certificate_expires?.as_second()))),
        )?;
        gauges(
            &mut encoder,
            "okms_withdrawals_held",
            "Withdrawals that exceed maxWithdrawalsPerHour and wait to be confirmed on the store.",
            None,
            stores.iter().map(|of| (StoreLabel::of(&of.store), count(of.withdrawals_held))),
        )
    }
}

/// One gauge without labels.
pub(super) fn gauge(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: &impl EncodeGaugeValue,
) -> Result<(), Error> {
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    metric.encode_gauge(value)
}

/// One counter without labels.
pub(super) fn counter(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: &Unit,
    value: &impl EncodeCounterValue,
) -> Result<(), Error> {
    let mut metric = encoder.encode_descriptor(name, help, Some(unit), MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, u64>(value, None)
}

/// A gauge for each set of labels; nothing at all where there is none.
fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    series: impl Iterator<Item = (L, V)>,
) -> Result<(), Error> {
    let mut series = series.peekable();
    if series.peek().is_none() {
        return Ok(());
    }
    let mut metric: MetricEncoder = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    series.try_for_each(|(labels, value)| metric.encode_family(&labels)?.encode_gauge(&value))
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
