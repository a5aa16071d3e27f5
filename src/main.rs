//! The binary `okms-operator`. Its command line is `cli`, its start `process::start`; the tour of the crate is in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    okms_operator::cli::main()
}
