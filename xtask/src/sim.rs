//! `cargo xtask sim`: the OKMS simulator, for playing by hand.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::{cargo, run};

/// Builds the OKMS simulator and runs it until Ctrl-C.
///
/// It prints one line of JSON when it is ready: where it listens, where its admin port is, its okmsId. With --dir it writes
/// what a client needs (authority, certificate, key) into a folder.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask sim --dir /tmp/okms\nEverything it takes: cargo xtask sim -- --help")]
pub(crate) struct Args {
    /// Goes to the simulator as it is.
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut simulator = run::program(cargo::binary("okms-sim", &[])?);
    simulator.args(&args.arguments);
    // It takes our place, so that signals and its exit status need no forwarding.
    Err(simulator.exec()).context("cannot run the simulator")
}
