//! The cargo that started us, and binaries that it builds.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::run;

/// Cargo, in the workspace's root.
pub(crate) fn cargo() -> Command {
    run::program(env::var_os("CARGO").as_deref().map_or(Path::new("cargo"), Path::new))
}

/// Builds one binary and says where it is, whatever the profile, the target folder and the target.
pub(crate) fn binary(package: &str, more: &[&str]) -> Result<PathBuf> {
    let [binary] = binaries([package], more)?;
    Ok(binary)
}

/// Builds the binaries of several packages at once, so that they share every dependency, and says where they are.
pub(crate) fn binaries<const N: usize>(packages: [&str; N], more: &[&str]) -> Result<[PathBuf; N]> {
    let named = packages.iter().flat_map(|package| ["--package", package, "--bin", package]);
    let arguments: Vec<_> = ["build"].into_iter().chain(named).collect();
    eprintln!("$ cargo {} {}", arguments.join(" "), more.join(" "));
    let output = cargo()
        .args(arguments)
        .args(more)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{} does not build ({})", packages.join(" or "), output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut built = Vec::new();
    for package in packages {
        built.push(executable(&messages, package).with_context(|| format!("cargo built no binary {package}"))?);
    }
    built.try_into().map_err(|_| anyhow!("cargo built fewer binaries than packages"))
}

/// The executable of a name among the messages of a build.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = messages.filter(|message| message.pointer("/target/name").is_some_and(|target| target == name));
    ours.find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_libraries_and_other_names() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"okms-sim","kind":["lib"]},"executable":null}
            {"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}
            {"reason":"compiler-artifact","target":{"name":"okms-sim"},"executable":"/t/okms-sim"}
            {"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "okms-sim"), Some(PathBuf::from("/t/okms-sim")));
        assert_eq!(executable(messages, "absent"), None);
    }
}
