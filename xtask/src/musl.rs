//! What it takes to build for musl, as the container image is built.

use std::{env, path::Path};

use anyhow::{Context, Result, bail};

use crate::run;

/// Installs what is missing, or says what to install; answers with the target's name.
pub(crate) fn prepare() -> Result<String> {
    let target = format!("{}-unknown-linux-musl", env::consts::ARCH);
    standard_library(&target)?;
    c_compiler(&target)?;
    Ok(target)
}

/// Rust's standard library for the target.
fn standard_library(target: &str) -> Result<()> {
    let sysroot = run::output(run::program("rustc").args(["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir() {
        return Ok(());
    }
    run::run(run::program("rustup").args(["target", "add", target])).with_context(|| {
        format!("Rust's standard library for {target} is missing: `rustup target add {target}` installs it")
    })
}

/// A C compiler for the target, which the cryptography needs.
fn c_compiler(target: &str) -> Result<()> {
    let chosen = format!("CC_{}", target.replace('-', "_"));
    if env::var_os(&chosen).is_some() || run::is_installed("musl-gcc") {
        return Ok(());
    }
    if run::is_root() && run::is_installed("apt-get") {
        eprintln!("musl-gcc is missing: installing musl-tools");
        // The lists of packages are often absent (containers) or old.
        run::run(run::program("apt-get").args(["update", "--quiet"]))?;
        return run::run(run::program("apt-get").args(["install", "--yes", "--no-install-recommends", "musl-tools"]));
    }
    bail!("a C compiler for musl is missing: install the package musl-tools (Debian, Ubuntu), or name one in {chosen}")
}
