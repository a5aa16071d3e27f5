//! Signals: the first SIGTERM or SIGINT asks for a drain, the second ends the process.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Error;

/// The signals that stop the process. From the moment they are held they no longer end it by themselves.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn hold() -> Result<Self, Error> {
        let hold = |kind| signal(kind).map_err(Error::Signals);
        Ok(Self { interrupt: hold(SignalKind::interrupt())?, terminate: hold(SignalKind::terminate())? })
    }

    /// Cancels at the first signal, and ends at the second with what the process ends with then.
    pub(super) async fn obey(mut self, cancel: &CancellationToken) -> Error {
        let first = self.next().await;
        tracing::info!(signal = first, "stopping; a second signal ends the process at once");
        cancel.cancel();
        Error::Aborted { signal: self.next().await }
    }

    /// The number of the next signal.
    async fn next(&mut self) -> u8 {
        let kind = tokio::select! {
            Some(()) = self.interrupt.recv() => SignalKind::interrupt(),
            Some(()) = self.terminate.recv() => SignalKind::terminate(),
            // Never: a stream of signals does not end as long as the runtime lives.
            else => pending().await,
        };
        u8::try_from(kind.as_raw_value()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_ends() {
        let signals = Signals::hold().unwrap();
        let cancel = CancellationToken::new();
        let sender = async {
            kill_process(getpid(), Signal::TERM).unwrap();
            cancel.cancelled().await;
            kill_process(getpid(), Signal::INT).unwrap();
        };
        let both = async { tokio::join!(signals.obey(&cancel), sender) };
        let (end, ()) = timeout(Duration::from_mins(1), both).await.expect("both signals arrive");
        assert!(matches!(end, Error::Aborted { signal: 2 }), "{end:?}");
    }
}
