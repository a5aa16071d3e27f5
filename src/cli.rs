//! The command line: what can be turned, by a flag or by an environment variable, and how it is explained.
//!
//! Everything is parsed into a type here; nothing is decided. `run` goes on in [`crate::process::start`].

#![allow(clippy::doc_markdown)] // `--help` prints these comments, and shows no Markdown.

mod check;
mod run;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use self::{check::Check, run::Run};
use crate::{api, okms::EndpointPattern, process};

/// Keeps Kubernetes Secrets equal to the secrets in OVHcloud OKMS Secret Manager.
#[derive(Debug, Parser)]
#[command(name = "okms-operator", version, arg_required_else_help = true, after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps, on the cluster that KUBECONFIG points at:
  okms-operator crds | kubectl apply --server-side -f -
  okms-operator run";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator, in a pod or from a shell.
    ///
    /// The cluster is the one that KUBECONFIG points at; else, in a pod, the pod's own, with the rights of its ServiceAccount; else
    /// that of ~/.kube/config. What to read from OKMS, and with which credentials, is said by the objects in the cluster
    /// (ClusterOkmsStore, OkmsSecret), not here.
    ///
    /// Of several that are started alike, one leads and works; the others stand by (--leader-elect).
    ///
    /// The first SIGTERM or SIGINT lets the work under way end, for at most 25 seconds, and another process lead; the second ends the
    /// process at once.
    #[command(after_long_help = run::afterword())]
    Run(Box<Run>),

    /// Look at a store as the operator does, and say what is right and what is wrong.
    ///
    /// A store of the cluster that KUBECONFIG points at, or in a pod of the pod's own; or, with --endpoint, what is not a store yet. It
    /// reads the store and its credential, asks OKMS for its list, and with --path for one secret. It changes nothing, and shows no
    /// value. What is mounted into the operator's pod is there only: run it there with kubectl exec.
    #[command(after_long_help = check::AFTERWORD)]
    Check(Box<Check>),

    /// Print the custom resource definitions of this release as YAML.
    ///
    /// For `kubectl apply --server-side -f -`. The Helm chart brings the same.
    Crds,
}

/// The binary: parses its arguments, does what they say, and says in one line why that failed.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(run) => match run.options().map(process::start::run) {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) => {
                complain(&error.line());
                ExitCode::from(error.exit_code())
            }
            Err(error) => error.exit(),
        },
        Command::Check(question) => match question.question().as_ref().map(process::check::run) {
            Ok(Ok(true)) => ExitCode::SUCCESS,
            Ok(Ok(false)) => ExitCode::FAILURE,
            Ok(Err(error)) => {
                complain(&error.line());
                ExitCode::from(error.exit_code())
            }
            Err(error) => error.exit(),
        },
        Command::Crds => match print_crds() {
            Ok(()) => ExitCode::SUCCESS,
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => {
                complain(&format!("cannot print: {error}"));
                ExitCode::FAILURE
            }
        },
    }
}

/// If even this cannot be written, the exit code says it alone.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "error: {line}");
}

fn print_crds() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (_, yaml) in api::crds() {
        write!(out, "---\n{yaml}")?;
    }
    out.flush()
}

fn or_ovhcloud(patterns: Vec<EndpointPattern>) -> Vec<EndpointPattern> {
    if patterns.is_empty() { EndpointPattern::ovhcloud() } else { patterns }
}

/// A DNS label (RFC 1123), as Kubernetes wants the names of namespaces.
fn namespace(text: &str) -> Result<String, &'static str> {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_sound =
        (1..=63).contains(&text.len()) && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-');
    if is_sound {
        Ok(text.to_owned())
    } else {
        Err("write the name of a namespace: lower-case letters, digits and dashes")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
