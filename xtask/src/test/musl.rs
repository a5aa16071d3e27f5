//! The binary that the container image holds: static, and starting where there is nothing but itself.
//!
//! Shown without a container engine: the binary is built for musl, looked at, and started in an empty root.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{cargo, musl, run};

const BINARY: &str = "okms-operator";

pub(super) fn run() -> Result<()> {
    let target = musl::prepare()?;
    // Unoptimized: what is shown here does not depend on it, and an optimized build would take longer than everything else.
    let binary = cargo::binary(BINARY, &["--target", &target])?;
    let bytes = fs::read(&binary).with_context(|| format!("reading {}", binary.display()))?;
    if needs_interpreter(&bytes).context("the binary is not a 64-bit little-endian ELF file")? {
        bail!("{} needs a dynamic loader, so it cannot start in an empty image", binary.display());
    }
    starts_in_an_empty_root(&binary)
}

/// Whether an ELF file asks for a dynamic loader (it has a program header of type `PT_INTERP`); nothing if it is no 64-bit
/// little-endian ELF file. Offsets as in elf(5).
fn needs_interpreter(file: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let is_64_bit_little_endian = file.get(4..6)? == [2, 1];
    if !file.starts_with(b"\x7fELF") || !is_64_bit_little_endian {
        return None;
    }
    let headers = usize::try_from(u64::from_le_bytes(bytes(file, 32)?)).ok()?;
    let size = usize::from(u16::from_le_bytes(bytes(file, 54)?));
    let count = usize::from(u16::from_le_bytes(bytes(file, 56)?));
    let kinds = (0..count).map(|index| Some(u32::from_le_bytes(bytes(file, headers.checked_add(index * size)?)?)));
    let kinds = kinds.collect::<Option<Vec<_>>>()?;
    Some(kinds.contains(&PT_INTERP))
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..)?.first_chunk().copied()
}

/// Runs the binary where nothing else is: no libraries, no /etc, no /proc, no /tmp.
fn starts_in_an_empty_root(binary: &Path) -> Result<()> {
    let root = tempfile::tempdir().context("creating an empty root")?;
    fs::copy(binary, root.path().join(BINARY)).context("copying the binary into an empty root")?;
    let version = in_root(root.path(), "--version")?;
    if !version.starts_with(BINARY) {
        bail!("in an empty root, `{BINARY} --version` printed: {}", version.trim());
    }
    let crds = in_root(root.path(), "crds")?;
    if !crds.contains("kind: CustomResourceDefinition") {
        bail!("in an empty root, `{BINARY} crds` printed no CustomResourceDefinition");
    }
    Ok(())
}

fn in_root(root: &Path, argument: &str) -> Result<String> {
    let mut command = if run::is_root() {
        Command::new("chroot")
    } else {
        // A user namespace of our own, in which we may do it.
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "chroot"]);
        command
    };
    command
        .arg(root)
        .arg(Path::new("/").join(BINARY))
        .arg(argument)
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default());
    run::output(&mut command).context(
        "the static binary does not start in an empty root (if it is chroot or unshare that is refused: run as root, \
         or allow unprivileged user namespaces)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with one program header of the given type.
    fn elf(kind: u32) -> Vec<u8> {
        let mut file = vec![0; 120];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&1_u16.to_le_bytes());
        file[64..68].copy_from_slice(&kind.to_le_bytes());
        file
    }

    #[test]
    fn a_dynamic_binary_asks_for_an_interpreter() {
        assert_eq!(needs_interpreter(&elf(3)), Some(true));
        // We are one ourselves.
        let ourselves = fs::read(env::current_exe().unwrap()).unwrap();
        assert_eq!(needs_interpreter(&ourselves), Some(true));
    }

    #[test]
    fn a_static_binary_does_not() {
        assert_eq!(needs_interpreter(&elf(1)), Some(false));
    }

    #[test]
    fn what_is_no_elf_file_is_said_to_be_none() {
        assert_eq!(needs_interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(needs_interpreter(&elf(1)[..66]), None);
        assert_eq!(needs_interpreter(b""), None);
    }
}
