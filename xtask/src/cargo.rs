//! The cargo that started us, and binaries that it builds.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run;

/// Cargo, in the workspace's root.
pub(crate) fn cargo() -> Command {
    run::program(env::var_os("CARGO").as_deref().map_or(Path::new("cargo"), Path::new))
}

/// Builds one binary and says where it is, whatever the profile, the target folder and the target.
pub(crate) fn binary(package: &str, more: &[&str]) -> Result<PathBuf> {
    let arguments = ["build", "--package", package, "--bin", package];
    eprintln!("$ cargo {} {}", arguments.join(" "), more.join(" "));
    let output = cargo()
        .args(arguments)
        .args(more)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{package} does not build ({})", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    executable(&messages, package).with_context(|| format!("cargo built no binary {package}"))
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
