//! `cargo xtask codegen`: the files that are generated from the code and committed.
//!
//! They are committed so that users and reviewers see them; `--check` is what keeps them honest.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::workspace::{self, yaml_files};

/// Where the custom resource definitions go: for `kubectl apply`, and for Helm.
const CRDS: [&str; 2] = ["crds", "charts/okms-operator/crds"];

/// Writes what is generated from the code: the custom resource definitions.
///
/// They are generated from the types in src/api, into crds/ and into the chart.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Writes nothing, and fails if something would change.
    #[arg(long)]
    pub(crate) check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let crds: BTreeMap<_, _> = okms_operator::api::crds().into_iter().collect();
    for folder in CRDS {
        let changes = changes(&workspace::root().join(folder), &crds)?;
        if let (true, Some(change)) = (args.check, changes.first()) {
            let path = Path::new(folder).join(change.name());
            bail!("{} is not what the code generates: run `cargo xtask codegen` and commit it", path.display());
        }
        changes.iter().try_for_each(|change| change.apply(folder))?;
    }
    Ok(())
}

/// What has to happen to one file.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Write {
        path: PathBuf,
        content: String,
    },
    /// Nothing generates it any more.
    Remove {
        path: PathBuf,
    },
}

impl Change {
    fn name(&self) -> &Path {
        let (Self::Write { path, .. } | Self::Remove { path }) = self;
        path.file_name().map_or(path, Path::new)
    }

    fn apply(&self, folder: &str) -> Result<()> {
        let shown = Path::new(folder).join(self.name());
        match self {
            Self::Write { path, content } => {
                let parent = path.parent().unwrap_or(path);
                fs::create_dir_all(parent).with_context(|| format!("creating {folder}"))?;
                fs::write(path, content).with_context(|| format!("writing {}", shown.display()))?;
                eprintln!("wrote {}", shown.display());
            }
            Self::Remove { path } => {
                fs::remove_file(path).with_context(|| format!("removing {}", shown.display()))?;
                eprintln!("removed {}", shown.display());
            }
        }
        Ok(())
    }
}

/// What makes the YAML files of a folder equal to `wanted`, by file name.
fn changes(folder: &Path, wanted: &BTreeMap<String, String>) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for (name, content) in wanted {
        let path = folder.join(name);
        if fs::read_to_string(&path).ok().as_ref() != Some(content) {
            changes.push(Change::Write { path, content: content.clone() });
        }
    }
    for path in yaml_files(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !wanted.contains_key(&*name) {
            changes.push(Change::Remove { path });
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
    }

    #[test]
    fn only_what_differs_changes_and_what_nothing_generates_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        for (name, content) in [("same.yaml", "1"), ("old.yaml", "2"), ("stale.yaml", "3"), ("README.md", "4")] {
            fs::write(path(name), content).unwrap();
        }
        let wanted = wanted(&[("same.yaml", "1"), ("old.yaml", "new"), ("missing.yaml", "5")]);
        let changes = changes(folder.path(), &wanted).unwrap();
        let expected = [
            Change::Write { path: path("missing.yaml"), content: "5".to_owned() },
            Change::Write { path: path("old.yaml"), content: "new".to_owned() },
            Change::Remove { path: path("stale.yaml") },
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn applied_changes_leave_nothing_to_change() {
        let folder = tempfile::tempdir().unwrap();
        let crds = folder.path().join("not-there-yet");
        let wanted = wanted(&[("a.yaml", "1")]);
        for change in changes(&crds, &wanted).unwrap() {
            change.apply("crds").unwrap();
        }
        assert_eq!(changes(&crds, &wanted).unwrap(), []);
    }
}
