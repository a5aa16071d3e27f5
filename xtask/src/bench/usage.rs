//! What the system and the API server count: processor time, memory, requests.

use std::{collections::BTreeMap, fs, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use kube::Client;
use tokio::time::sleep;

/// What the operator touches. The counts by verb are not told apart by client, and other parts of the control plane have their own
/// work on other resources.
const RESOURCES: [&str; 6] = ["okmssecrets", "clusterokmsstores", "secrets", "configmaps", "namespaces", "events"];

/// The verbs that change something, as `apiserver_request_total` names them.
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

/// For how long the machine is looked at before anything is measured.
const LOOK: Duration = Duration::from_secs(2);

/// The share of the processors' time, in percent, that other work takes at the moment: it falsifies what is measured.
pub(super) async fn other_work() -> Result<u64> {
    let so_far = || {
        let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        busy_and_all(&stat).context("/proc/stat is not as proc(5) says")
    };
    let (busy_before, all_before) = so_far()?;
    sleep(LOOK).await;
    let (busy, all) = so_far()?;
    Ok((busy - busy_before) * 100 / (all - all_before).max(1))
}

/// Of the first line of proc(5)'s stat: user, nice, system, idle, iowait, and more that is busy.
fn busy_and_all(stat: &str) -> Option<(u64, u64)> {
    let times = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    // The last two, of guests, are in user and nice already.
    let times = times.take(8).map(|time| time.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let all: u64 = times.iter().sum();
    Some((all - times.get(3)? - times.get(4)?, all))
}

/// Memory of a process that is in RAM, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    pub(super) now: u64,
    /// The most that it ever was.
    pub(super) most: u64,
}

impl Memory {
    pub(super) fn of(process: u32) -> Result<Self> {
        let path = format!("/proc/{process}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let bytes = |field| kibibytes(&status, field).map(|kibibytes| kibibytes * 1024);
        let now = bytes("VmRSS:").with_context(|| format!("{path} has no VmRSS"))?;
        let most = bytes("VmHWM:").with_context(|| format!("{path} has no VmHWM"))?;
        Ok(Self { now, most })
    }
}

/// How many files, sockets among them, a process has open.
pub(super) fn open_files(process: u32) -> Result<usize> {
    let path = format!("/proc/{process}/fd");
    Ok(fs::read_dir(&path).with_context(|| format!("listing {path}"))?.count())
}

/// The number of a line such as `VmRSS:   1234 kB`.
pub(super) fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The processor time that a process has used, in user and system mode.
pub(super) fn processor_time(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let ticks = ticks(&stat).with_context(|| format!("{path} is not as proc(5) says"))?;
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100))
}

/// Fields 14 and 15 of proc(5)'s stat. The second may hold anything, but ends with the last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    Some(times.next()?? + times.next()??)
}

/// Requests to the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Requests {
    /// Those of `ServiceAccount`s, as API priority and fairness counts them. The operator is the only one here.
    pub(super) by_operator: u64,
    /// Everybody's on what the operator touches, by verb and resource, as `apiserver_request_total` counts them.
    pub(super) by_verb: BTreeMap<String, u64>,
}

impl Requests {
    pub(super) async fn so_far(client: &Client) -> Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new()).context("asking for the API server's metrics")?;
        let metrics = client.request_text(request).await.context("reading the API server's metrics")?;
        Ok(Self::counted(&metrics))
    }

    fn counted(metrics: &str) -> Self {
        let mut requests = Self::default();
        for (labels, count) in series(metrics, "apiserver_flowcontrol_dispatched_requests_total{") {
            if label(labels, "flow_schema") == Some("service-accounts") {
                requests.by_operator += count;
            }
        }
        for (labels, count) in series(metrics, "apiserver_request_total{") {
            let (Some(verb), Some(resource)) = (label(labels, "verb"), label(labels, "resource")) else { continue };
            if RESOURCES.contains(&resource) {
                *requests.by_verb.entry(format!("{verb} {resource}")).or_default() += count;
            }
        }
        requests
    }

    /// Everybody's writes on one resource.
    pub(super) fn on(&self, resource: &str) -> u64 {
        let writes = self.by_verb.iter().filter(|(request, _)| {
            request.split_once(' ').is_some_and(|(verb, on)| on == resource && WRITES.contains(&verb))
        });
        writes.map(|(_, count)| count).sum()
    }

    /// Everybody's requests of a verb on one resource.
    pub(super) fn of(&self, verb: &str, resource: &str) -> u64 {
        self.by_verb.get(&format!("{verb} {resource}")).copied().unwrap_or_default()
    }

    /// Everybody's writes on what the operator writes, but for its Lease.
    pub(super) fn writes(&self) -> u64 {
        ["okmssecrets", "clusterokmsstores", "secrets", "events"].iter().map(|resource| self.on(resource)).sum()
    }

    /// Those since then.
    pub(super) fn since(&self, then: &Self) -> Self {
        let before = |verb| then.by_verb.get(verb).copied().unwrap_or_default();
        let by_verb = self.by_verb.iter().map(|(verb, count)| (verb.clone(), count - before(verb)));
        Self {
            by_operator: self.by_operator - then.by_operator,
            by_verb: by_verb.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// What operators say of themselves.
pub(super) struct Scraped(Vec<String>);

/// Reads the metrics of operators.
pub(super) async fn scrape(addresses: impl Iterator<Item = SocketAddr>) -> Result<Scraped> {
    let http = reqwest::Client::builder().no_proxy().build().context("making an HTTP client")?;
    let mut texts = Vec::new();
    for address in addresses {
        let answer = http.get(format!("http://{address}/metrics")).send().await.context("asking for metrics")?;
        texts.push(answer.text().await.context("reading metrics")?);
    }
    Ok(Scraped(texts))
}

impl Scraped {
    /// The sum of a metric over the series whose labels are chosen.
    pub(super) fn sum(&self, name: &str, chosen: impl Fn(&str) -> bool) -> u64 {
        let lines = self.0.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix(name));
        let series = lines.filter_map(|line| line.strip_prefix('{')?.rsplit_once("} "));
        series.filter(|(labels, _)| chosen(labels)).filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
    }
}

/// The labels and the counts of a metric, which is named with its brace.
fn series<'a>(metrics: &'a str, name: &'static str) -> impl Iterator<Item = (&'a str, u64)> {
    let series = metrics.lines().filter_map(move |line| line.strip_prefix(name)?.rsplit_once("} "));
    series.filter_map(|(labels, count)| Some((labels, count.parse().ok()?)))
}

/// The value of a label that holds no quotes itself.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_verb_on_what_the_operator_touches() {
        let metrics = r#"# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",resource="secrets",scope="resource",verb="GET",version="v1"} 3
apiserver_request_total{code="201",resource="secrets",verb="POST"} 2
apiserver_request_total{code="404",resource="okmssecrets",verb="GET"} 1
apiserver_request_total{code="200",resource="nodes",verb="GET"} 50
apiserver_other_total{resource="secrets",verb="GET"} 50
apiserver_flowcontrol_dispatched_requests_total{flow_schema="service-accounts",priority_level="workload-low"} 5
apiserver_flowcontrol_dispatched_requests_total{flow_schema="exempt",priority_level="exempt"} 7"#;
        let counted = Requests::counted(metrics);
        let counts = [("GET secrets", 3), ("POST secrets", 2), ("GET okmssecrets", 1)];
        let by_verb: BTreeMap<_, _> = counts.into_iter().map(|(verb, count)| (verb.to_owned(), count)).collect();
        assert_eq!(counted, Requests { by_operator: 5, by_verb: by_verb.clone() });
        let then = Requests { by_operator: 4, by_verb };
        assert_eq!(counted.since(&then), Requests { by_operator: 1, by_verb: BTreeMap::new() });
    }

    #[test]
    fn writes_are_told_from_reads() {
        let counts = [("GET secrets", 3), ("POST secrets", 2), ("PATCH okmssecrets", 1), ("PATCH namespaces", 5)];
        let by_verb = counts.into_iter().map(|(verb, count)| (verb.to_owned(), count)).collect();
        let requests = Requests { by_operator: 0, by_verb };
        assert_eq!((requests.on("secrets"), requests.writes()), (2, 3));
    }

    #[test]
    fn series_are_summed_by_their_labels() {
        let scraped = Scraped(vec![
            "okms_sources{store=\"a\",state=\"Active\"} 3\nokms_sources_other{state=\"Active\"} 50".to_owned(),
            "okms_sources{store=\"b\",state=\"Active\"} 2\nokms_sources{store=\"b\",state=\"Unknown\"} 7".to_owned(),
        ]);
        assert_eq!(scraped.sum("okms_sources", |labels| labels.contains("state=\"Active\"")), 5);
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 30 12 0 0 20 0 1 0 9 1 1";
        assert_eq!(ticks(stat), Some(42));
    }

    #[test]
    fn idle_and_waiting_processors_are_not_busy() {
        assert_eq!(busy_and_all("cpu  10 1 5 80 4 0 0 0 7 0\ncpu0 1 1"), Some((16, 100)));
    }

    #[test]
    fn this_process_can_be_measured() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.now > 0 && memory.most >= memory.now);
        processor_time(std::process::id()).unwrap();
        assert!(open_files(std::process::id()).unwrap() > 2);
    }
}
