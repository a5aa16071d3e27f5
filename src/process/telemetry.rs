//! Logs, on stderr: what is said, how it is written, and what is never said however much is asked for.
//!
//! Libraries that see requests and answers can log their content: kube's client logs a whole answer when it cannot read it.
//! [`CEILINGS`] hold for them whatever the filter says. What speaks through the `log` facade is not listened to at all, and a
//! panic is logged with its place, but without its message, which may show the value that it is about.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    io::{self, IsTerminal},
    panic,
    str::FromStr,
};

use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
};

/// The most that is ever logged, by how a target begins: `hyper` is `hyper_util` and `hyper_rustls` too.
///
/// What kube's client calls an error reaches its caller as well, who says what was attempted.
pub const CEILINGS: [(&str, LevelFilter); 7] = [
    ("kube_client", LevelFilter::OFF),
    // Its span around each reconcile says less than ours within it.
    ("kube_runtime", LevelFilter::WARN),
    ("hyper", LevelFilter::WARN),
    ("h2", LevelFilter::WARN),
    ("rustls", LevelFilter::WARN),
    ("reqwest", LevelFilter::WARN),
    ("tower", LevelFilter::WARN),
];

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object for each line, with the fields of its spans.
    Json,
    /// For people; coloured on a terminal, unless `NO_COLOR` is set.
    Text,
}

/// What is said: a level, or levels by module, as in `info,okms_operator=debug`.
#[derive(Debug, Clone)]
pub struct LogFilter(Targets);

/// The text is not a [`LogFilter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write off, error, warn, info, debug or trace, or levels by module, as in info,okms_operator=debug")]
pub struct LogFilterError;

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        // To `Targets` a mistyped level is the name of a module, and everything else would be silenced.
        let is_sound = |part: &str| part.contains('=') || !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        if !text.split(',').all(is_sound) {
            return Err(LogFilterError);
        }
        text.parse().map(Self).map_err(|_| LogFilterError)
    }
}

/// Starts logging, and logs panics. For the process as a whole, so the binary alone calls it, once.
pub fn init(format: LogFormat, filter: LogFilter) {
    let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if tracing::subscriber::set_global_default(subscriber(format, filter, colours, io::stderr)).is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
}

/// What [`init`] logs with, writing elsewhere.
pub fn subscriber<W>(format: LogFormat, filter: LogFilter, colours: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    let ceiling = Targets::new().with_default(LevelFilter::TRACE).with_targets(CEILINGS);
    Registry::default().with(lines.with_filter(filter.0.and(ceiling)))
}

/// How [`init`] logs panics. The place says which code it was; a backtrace, where `RUST_BACKTRACE` asks for one, how it got there.
pub fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(place, %backtrace, "panicked: this is a bug");
    } else {
        tracing::error!(place, "panicked: this is a bug");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is logged meanwhile.
    fn logged(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        let writer = move || Shared(Arc::clone(&writer));
        tracing::subscriber::with_default(subscriber(format, filter.parse().unwrap(), false, writer), work);
        String::from_utf8(lines.lock().unwrap().clone()).unwrap()
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_filter_lifts_a_ceiling() {
        for filter in
            ["trace", "kube_client=trace,hyper_util=trace,h2::client=trace", "trace,kube_client::client=debug"]
        {
            let lines = logged(LogFormat::Json, filter, || {
                tracing::warn!(target: "kube_client::client", "canary");
                tracing::info!(target: "hyper_util::client::legacy", "canary");
                tracing::info!(target: "h2::client", "canary");
                tracing::debug!(target: "rustls::client::hs", "canary");
                tracing::debug!(target: "reqwest::connect", "canary");
                tracing::debug!(target: "tower::buffer::worker", "canary");
                tracing::error!(target: "kube_client::client::builder", "canary");
                let span = tracing::info_span!(target: "kube_client::client::builder", "HTTP", canary = true);
                span.in_scope(|| tracing::warn!(target: "h2::client", "failed"));
            });
            assert!(!lines.contains("canary"), "{filter}: {lines}");
            assert!(lines.contains("failed"), "warnings stay: {filter}: {lines}");
        }
    }

    #[test]
    fn the_filter_goes_by_module() {
        let lines = logged(LogFormat::Text, "warn,okms_operator::feed=debug", || {
            tracing::debug!(target: "okms_operator::feed::driver", "shown");
            tracing::debug!(target: "okms_operator::k8s", "hidden");
            tracing::warn!(target: "kube_runtime", "warned");
        });
        assert!(lines.contains("shown") && lines.contains("warned") && !lines.contains("hidden"), "{lines}");
    }

    #[test]
    fn json_is_one_object_for_each_line_with_the_fields_of_its_spans() {
        let lines = logged(LogFormat::Json, "info", || {
            let _object = tracing::info_span!("reconcile", object = "shop/db").entered();
            tracing::info!(reason = "Synced", "first\nsecond");
        });
        let line: serde_json::Value = serde_json::from_str(lines.trim_end()).unwrap();
        assert_eq!(line["message"], "first\nsecond");
        assert_eq!(line["reason"], "Synced");
        assert_eq!(line["spans"][0]["object"], "shop/db");
    }

    #[test]
    fn a_mistyped_level_is_refused() {
        for text in ["inof", "info,", "", "okms_operator=loud"] {
            assert_eq!(text.parse::<LogFilter>().unwrap_err(), LogFilterError, "{text}");
        }
    }

    #[test]
    fn a_panic_is_logged_with_its_place_and_without_its_message() {
        // In a process of its own: there is one panic hook for all threads.
        let output = std::process::Command::new(env::current_exe().unwrap())
            .args(["--exact", "process::telemetry::tests::panic_in_a_task", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{said}");
        assert!(said.contains(r#""place":"src/process/telemetry.rs:"#), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }

    /// Not a test: what [`a_panic_is_logged_with_its_place_and_without_its_message`] runs.
    #[test]
    #[ignore = "is started by another test"]
    fn panic_in_a_task() {
        init(LogFormat::Json, "trace".parse().unwrap());
        assert!(std::thread::spawn(|| panic!("the value is {}", "canary")).join().is_err());
    }
}
