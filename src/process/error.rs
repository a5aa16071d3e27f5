//! Why the process ends: one sentence that says what to do, and an exit code for scripts.

use std::{fmt::Write as _, io, net::SocketAddr, time::Duration};

use crate::controller;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Every end but a clean one. `Display` says its own level; [`Error::line`] says all of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no Kubernetes cluster can be found")]
    NoCluster(#[source] Cause),
    #[error("the Kubernetes cluster at {server} cannot be used")]
    Unreachable { server: String, source: Cause },
    #[error("the cluster at {server} does not serve {missing}")]
    CrdsMissing { server: String, missing: String },
    #[error("the cluster at {server} does not accept the operator's identity")]
    Unauthenticated { server: String, source: Cause },
    #[error("{user} may not {missing}")]
    RightsMissing { user: String, missing: String },
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
    #[error("{name} cannot be used")]
    Argument { name: &'static str, source: Cause },
    #[error("cannot print")]
    Output(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("the operator stopped working")]
    Controller(#[source] controller::Error),
    #[error("the operator stopped working without being told to")]
    EndedEarly,
    #[error("a part of the operator panicked")]
    Panicked,
    #[error("the work under way did not end within {} seconds of the stop", after.as_secs())]
    DrainTimeout { after: Duration },
    #[error("a second signal ended the operator before the work under way had ended")]
    Aborted { signal: u8 },
}

/// The exit codes, as `--help` tells them. 2 is clap's for a wrong command line.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    stopped as told
  1    failed while running
  2    wrong command line or environment
  3    no cluster: none configured, or it does not answer
  4    the CRDs are not installed
  5    the operator's identity is not accepted, or rights are missing
  130  ended by a second SIGINT, before all work had ended (143: by SIGTERM)";

impl Error {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Argument { .. } => 2,
            Self::NoCluster(_) | Self::Unreachable { .. } => 3,
            Self::CrdsMissing { .. } => 4,
            Self::Unauthenticated { .. } | Self::RightsMissing { .. } => 5,
            Self::Aborted { signal } => 128 + signal,
            Self::Listen { .. }
            | Self::Signals(_)
            | Self::Output(_)
            | Self::Runtime(_)
            | Self::Controller(_)
            | Self::EndedEarly
            | Self::Panicked
            | Self::DrainTimeout { .. } => 1,
        }
    }

    /// What a person can do about it.
    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NoCluster(_) => Some("set KUBECONFIG to a kubeconfig file, or run in a pod with a ServiceAccount"),
            Self::Unreachable { .. } => Some("check the address, and that the API server is up"),
            Self::CrdsMissing { .. } => {
                Some("install the CRDs of this release: okms-operator crds | kubectl apply --server-side -f -")
            }
            Self::Unauthenticated { .. } => {
                Some("check the token of the ServiceAccount, or the user of the kubeconfig")
            }
            Self::RightsMissing { .. } => Some("grant it, as the roles of the Helm chart do"),
            Self::Listen { .. } => Some("choose another address with --listen"),
            Self::EndedEarly | Self::Panicked => Some("this is a bug: please report it with the log"),
            Self::Signals(_)
            | Self::Argument { .. }
            | Self::Output(_)
            | Self::Runtime(_)
            | Self::Controller(_)
            | Self::DrainTimeout { .. }
            | Self::Aborted { .. } => None,
        }
    }

    /// The error, its causes and what to do, in one line. Causes often repeat the text of their own cause; each is said once.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            if !line.contains(&text) {
                let _ = write!(line, ": {text}");
            }
            cause = error.source();
        }
        if let Some(remedy) = self.remedy() {
            let _ = write!(line, "; {remedy}");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_every_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("connecting\n  failed: refused")]
        struct Connecting(#[source] io::Error);
        let cause = Connecting(io::Error::other("refused"));
        let error = Error::Unreachable { server: "https://127.0.0.1:1".to_owned(), source: Box::new(cause) };
        assert_eq!(
            error.line(),
            "the Kubernetes cluster at https://127.0.0.1:1 cannot be used: connecting failed: refused; \
             check the address, and that the API server is up"
        );
        assert_eq!(error.exit_code(), 3);
    }

    #[test]
    fn a_second_signal_has_the_code_of_the_shells() {
        assert_eq!(Error::Aborted { signal: 2 }.exit_code(), 130);
        assert_eq!(Error::Aborted { signal: 15 }.exit_code(), 143);
    }
}
