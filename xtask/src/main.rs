//! The project's own tasks, run as `cargo xtask <task>`: one module each, named in [`cli`]. Nothing here is shipped.

mod bench;
mod cargo;
mod chaos;
mod cli;
mod cluster;
mod codegen;
mod demo;
mod musl;
mod run;
mod sim;
mod stage;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
