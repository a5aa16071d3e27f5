//! `cargo xtask codegen`: the files that are generated from the code and committed.
//!
//! They are committed so that users and reviewers see them; `--check` is what keeps them honest. What a file holds is decided by a
//! module of its own; [`files`] is the one way in which any of them gets onto the disk. A new one is one more line in `generated`.

mod examples;
mod files;
mod reasons;
mod reference;
mod schema;
mod templates;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::workspace;
use files::Files;

/// Where the custom resource definitions go: for `kubectl apply`, and for Helm.
const CRDS: [&str; 2] = ["crds", "charts/okms-operator/crds"];

/// Writes what is generated from the code: the custom resource definitions and the pages that list what is in the code.
///
/// From src/api: the definitions, into crds/ and into the chart; their fields, with the manifests of docs/examples/, into
/// docs/reference.md; the reasons, into docs/reasons.md. From src/plan/template: what templates can call, into docs/templates.md.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Writes nothing, and fails if something would change.
    #[arg(long)]
    pub(crate) check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace::root();
    let changes = files::changes(&root, &generated(&root)?, &CRDS)?;
    if let (true, Some(change)) = (args.check, changes.first()) {
        bail!("{} is not what the code generates: run `cargo xtask codegen` and commit it", change.path().display());
    }
    changes.iter().try_for_each(|change| change.apply(&root))
}

/// Every generated file.
fn generated(root: &Path) -> Result<Files> {
    let mut files = Files::new();
    let crds = okms_operator::api::crds();
    for folder in CRDS {
        files.extend(crds.iter().map(|(name, yaml)| (Path::new(folder).join(name), yaml.clone())));
    }
    files.insert(PathBuf::from("docs/reasons.md"), reasons::page());
    files.insert(PathBuf::from("docs/templates.md"), templates::page());
    files.insert(PathBuf::from("docs/reference.md"), reference::page(&schema::kinds()?, &root.join(examples::FOLDER))?);
    Ok(files)
}
