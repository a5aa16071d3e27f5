use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::*;
use crate::api::{Reason, condition::Status};

fn store(name: &str) -> StoreName {
    StoreName::ClusterOkmsStore(name.into())
}

/// One of everything.
fn full() -> (Arc<Metrics>, Arc<StoreMetrics>) {
    let metrics = Arc::new(Metrics::new());
    let of_store = metrics.store(&store("default"));
    of_store.request("metadata", "ok", Duration::from_millis(20));
    of_store.handshake();
    of_store.withdrawal();
    metrics.change_reached_secret(Duration::from_secs(3));
    metrics.leads(true);
    metrics.reconcile().ended(ReconcileOutcome::Settled);
    metrics.on_scrape(|| Snapshot {
        stores: vec![StoreSnapshot {
            store: store("default"),
            ready: true,
            sources: BTreeMap::from([("Active", 4), ("Deactivated", 1)]),
            oldest_check: Some(Duration::from_millis(1500)),
            certificate_expires: Some(Timestamp::from_second(1_800_000_000).unwrap()),
            withdrawals_held: 2,
        }],
        secrets: HashMap::from([((Status::True, Reason::Synced), 3), ((Status::False, Reason::PathNotFound), 1)]),
        waiting: 7,
    });
    (metrics, of_store)
}

/// The samples of a text, as `name{labels}` and value.
fn samples(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap()).collect()
}

#[test]
fn every_series_has_its_name_and_its_labels() {
    let (metrics, _store) = full();
    let text = metrics.encode();
    let samples = samples(&text);
    let of_store = r#"{store="ClusterOkmsStore/default"}"#;
    for (series, value) in [
        (r#"okms_requests_total{store="ClusterOkmsStore/default",operation="metadata",outcome="ok"}"#, "1"),
        (r#"okms_request_duration_seconds_count{store="ClusterOkmsStore/default",operation="metadata"}"#, "1"),
        (&format!("okms_tls_handshakes_total{of_store}"), "1"),
        (&format!("okms_withdrawals_total{of_store}"), "1"),
        (&format!("okms_withdrawals_held{of_store}"), "2"),
        (&format!("okms_store_ready{of_store}"), "1"),
        (&format!("okms_source_age_seconds{of_store}"), "1.5"),
        (&format!("okms_certificate_expiry_timestamp_seconds{of_store}"), "1800000000"),
        (r#"okms_sources{store="ClusterOkmsStore/default",state="Active"}"#, "4"),
        (r#"okms_sources{store="ClusterOkmsStore/default",state="Deactivated"}"#, "1"),
        (r#"okms_secrets{ready="True",reason="Synced"}"#, "3"),
        (r#"okms_secrets{ready="False",reason="PathNotFound"}"#, "1"),
        ("okms_change_to_secret_seconds_count", "1"),
        (r#"okms_operator_reconciles_total{outcome="settled"}"#, "1"),
        (r#"okms_operator_reconciles_total{outcome="panicked"}"#, "0"),
        ("okms_operator_reconcile_duration_seconds_count", "1"),
        ("okms_operator_reconciles_in_flight", "0"),
        ("okms_operator_reconciles_waiting", "7"),
        ("okms_operator_panics_total", "0"),
        ("okms_leader", "1"),
        (concat!(r#"okms_operator_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#), "1"),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series} in\n{text}");
    }
    #[cfg(target_os = "linux")]
    for series in
        ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_start_time_seconds"]
    {
        assert!(samples.contains_key(series), "{series} in\n{text}");
    }
}

/// The conventions that `promtool check metrics` holds one to.
#[test]
fn names_and_help_keep_the_conventions() {
    let (metrics, _store) = full();
    let text = metrics.encode();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut families = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        families += 1;
        let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
        let help = help.unwrap_or_else(|| panic!("{name} has no help"));
        assert!(help.ends_with('.') && !help.ends_with(".."), "{name}: {help}");
        for suffix in ["_total", "_count", "_sum", "_bucket", "_info"] {
            assert!(!name.ends_with(suffix), "{name}: the registry adds {suffix}");
        }
        assert!(["okms_", "process_"].iter().any(|prefix| name.starts_with(prefix)), "{name}");
        if name.ends_with("_seconds") || name.ends_with("_bytes") {
            let unit = name.rsplit('_').next().unwrap();
            assert!(text.contains(&format!("# UNIT {name} {unit}\n")), "{name} has no unit");
        } else {
            assert!(matches!(kind, "counter" | "gauge" | "info"), "{name}, a {kind}, has no unit");
        }
    }
    assert_eq!(families, text.lines().filter(|line| line.starts_with("# HELP ")).count());
}

#[test]
fn a_store_takes_its_series_along() {
    let (metrics, of_store) = full();
    metrics.on_scrape(Snapshot::default);
    let late_request = Arc::clone(&of_store);
    drop(of_store);
    late_request.request("data", "unavailable", Duration::from_secs(30));
    assert!(metrics.encode().contains("ClusterOkmsStore/default"));
    drop(late_request);
    assert!(!metrics.encode().contains("ClusterOkmsStore/default"), "{}", metrics.encode());
}

#[test]
fn a_reconcile_is_in_flight_until_it_ends() {
    let metrics = Metrics::new();
    let value = |series: &str| samples(&metrics.encode()).get(series).copied().map(str::to_owned);
    let running = metrics.reconcile();
    let given_up = metrics.reconcile();
    assert_eq!(value("okms_operator_reconciles_in_flight").as_deref(), Some("2"));
    drop(given_up);
    running.ended(ReconcileOutcome::Panicked);
    assert_eq!(value("okms_operator_reconciles_in_flight").as_deref(), Some("0"));
    assert_eq!(value("okms_operator_panics_total").as_deref(), Some("1"));
    assert_eq!(value(r#"okms_operator_reconciles_total{outcome="panicked"}"#).as_deref(), Some("1"));
    assert_eq!(value("okms_operator_reconcile_duration_seconds_count").as_deref(), Some("1"));
}

/// On Linux, since elsewhere the process has no series.
#[cfg(target_os = "linux")]
#[test]
fn the_page_lists_every_series_and_no_other() {
    let (metrics, _store) = full();
    let page = include_str!("../../../docs/metrics.md");
    let listed: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" | "))
        .flat_map(|(names, _)| names.split(", ").map(|name| name.trim_matches('`')))
        .collect();
    let text = metrics.encode();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let suffixed = families.map(|(name, kind)| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    });
    let exported: BTreeSet<String> = suffixed.collect();
    assert_eq!(listed, exported.iter().map(String::as_str).collect());
}
