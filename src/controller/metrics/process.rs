//! The process as Prometheus' client libraries show it everywhere: memory, processor time, open files, start.
//!
//! Read at each scrape, from where Linux tells it. Where it does not (another system), the series are absent.

use std::{
    fmt::Error,
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Unit};
use rustix::{
    param,
    time::{ClockId, clock_gettime},
};

use super::scrape::{counter, gauge};

/// `process_*` of the process that this runs in; the same for every operator in it.
#[derive(Debug)]
pub(super) struct ProcessSeries {
    /// In seconds since 1970. Read once: the wall clock may be set later, the start does not move.
    started: Option<f64>,
}

impl ProcessSeries {
    pub(super) fn new() -> Self {
        Self { started: started() }
    }
}

impl Collector for ProcessSeries {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let cpu = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
        counter(
            &mut encoder,
            "process_cpu",
            "Processor time spent, of all threads.",
            &Unit::Seconds,
            &cpu.as_secs_f64(),
        )?;
        if let Some(bytes) = resident_bytes() {
            gauge(&mut encoder, "process_resident_memory", "Memory in use.", Some(&Unit::Bytes), &bytes)?;
        }
        if let Some(files) = open_files() {
            gauge(&mut encoder, "process_open_fds", "Open file descriptors.", None, &files)?;
        }
        if let Some(started) = self.started {
            let help = "When the process was started, in seconds since 1970.";
            gauge(&mut encoder, "process_start_time", help, Some(&Unit::Seconds), &started)?;
        }
        Ok(())
    }
}

/// The second number of `/proc/self/statm` counts the resident pages.
fn resident_bytes() -> Option<i64> {
    let pages: i64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(i64::try_from(param::page_size()).ok()?)
}

/// One less than is listed, since listing opens one.
fn open_files() -> Option<i64> {
    let files = fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(files.saturating_sub(1)).ok()
}

/// Field 22 of `/proc/self/stat` tells the start in ticks since boot, on the clock that counts suspend. Fields are counted after
/// the name, which is in parentheses and may hold anything.
fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let ticks: u64 = after_name.split(' ').nth(22 - 3)?.parse().ok()?;
    let per_second = param::clock_ticks_per_second();
    let since_boot = Duration::from_secs(ticks / per_second)
        + Duration::from_secs(ticks % per_second) / u32::try_from(per_second).ok()?;
    let uptime = Duration::try_from(clock_gettime(ClockId::Boottime)).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(now.checked_sub(uptime.checked_sub(since_boot)?)?.as_secs_f64())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_this_process() {
        let before = open_files().unwrap();
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        assert!(open_files().unwrap() >= before + 40, "of {} files", held.len());
        assert!(resident_bytes().unwrap() > 1 << 20);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - started().unwrap();
        assert!((-1.0..86_400.0).contains(&age), "started {age} seconds ago");
    }
}
