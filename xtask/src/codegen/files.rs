//! What has to happen on the disk so that it holds what is generated. Knows nothing of what that is.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::workspace::yaml_files;

/// Generated files: their paths below the workspace's root, and what they hold.
pub(super) type Files = BTreeMap<PathBuf, String>;

/// What has to happen to one file, whose path is below the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
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
    pub(super) fn path(&self) -> &Path {
        let (Self::Write { path, .. } | Self::Remove { path }) = self;
        path
    }

    pub(super) fn apply(&self, root: &Path) -> Result<()> {
        let shown = self.path().display();
        let path = root.join(self.path());
        match self {
            Self::Write { content, .. } => {
                let folder = path.parent().unwrap_or(root);
                fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
                fs::write(path, content).with_context(|| format!("writing {shown}"))?;
                eprintln!("wrote {shown}");
            }
            Self::Remove { .. } => {
                fs::remove_file(path).with_context(|| format!("removing {shown}"))?;
                eprintln!("removed {shown}");
            }
        }
        Ok(())
    }
}

/// What makes the disk hold exactly `wanted`. In the folders of `owned` every YAML file is generated, so that others go.
pub(super) fn changes(root: &Path, wanted: &Files, owned: &[&str]) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for (path, content) in wanted {
        if fs::read_to_string(root.join(path)).ok().as_ref() != Some(content) {
            changes.push(Change::Write { path: path.clone(), content: content.clone() });
        }
    }
    for folder in owned {
        for path in yaml_files(&root.join(folder))? {
            let path = Path::new(folder).join(path.file_name().unwrap_or_default());
            if !wanted.contains_key(&path) {
                changes.push(Change::Remove { path });
            }
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(files: &[(&str, &str)]) -> Files {
        files.iter().map(|(path, content)| (PathBuf::from(path), (*content).to_owned())).collect()
    }

    #[test]
    fn only_what_differs_changes_and_what_nothing_generates_goes() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["crds", "docs"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        let there =
            [("crds/same.yaml", "1"), ("crds/old.yaml", "2"), ("crds/stale.yaml", "3"), ("crds/README.md", "4")];
        for (path, content) in there.into_iter().chain([("docs/by-hand.yaml", "5"), ("docs/old.md", "6")]) {
            fs::write(root.path().join(path), content).unwrap();
        }
        let wanted = wanted(&[
            ("crds/same.yaml", "1"),
            ("crds/old.yaml", "new"),
            ("crds/missing.yaml", "7"),
            ("docs/old.md", "new"),
        ]);
        let write = |path: &str, content: &str| Change::Write { path: path.into(), content: content.to_owned() };
        let expected = [
            write("crds/missing.yaml", "7"),
            write("crds/old.yaml", "new"),
            write("docs/old.md", "new"),
            Change::Remove { path: "crds/stale.yaml".into() },
        ];
        assert_eq!(changes(root.path(), &wanted, &["crds"]).unwrap(), expected);
    }

    #[test]
    fn applied_changes_leave_nothing_to_change() {
        let root = tempfile::tempdir().unwrap();
        let wanted = wanted(&[("not/there/yet/a.yaml", "1"), ("b.md", "2")]);
        for change in changes(root.path(), &wanted, &["not/there/yet"]).unwrap() {
            change.apply(root.path()).unwrap();
        }
        assert_eq!(changes(root.path(), &wanted, &["not/there/yet"]).unwrap(), []);
    }
}
