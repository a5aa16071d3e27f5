//! The tasks and their help. Does nothing itself.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{bench, chaos, cluster, codegen, demo, sim, test};

/// The project's own tasks.
///
/// They need Rust, a C compiler and Go; whatever else they need they build, and cache below target/.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Bench(bench::Args),
    Chaos(chaos::Args),
    #[command(subcommand)]
    Cluster(cluster::Task),
    Codegen(codegen::Args),
    Demo(demo::Args),
    Sim(sim::Args),
    Test(test::Args),
}

impl Cli {
    pub(crate) fn run(self) -> Result<()> {
        match self.task {
            Task::Bench(args) => bench::run(&args),
            Task::Chaos(args) => chaos::run(&args),
            Task::Cluster(task) => task.run(),
            Task::Codegen(args) => codegen::run(&args),
            Task::Demo(args) => demo::run(&args),
            Task::Sim(args) => sim::run(&args),
            Task::Test(args) => test::run(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
