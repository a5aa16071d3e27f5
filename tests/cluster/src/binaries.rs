//! Where the programs of the control plane, kubectl, Helm and kstatus come from.
//!
//! In this order: the folder that `KUBEBUILDER_ASSETS` names (the convention of envtest), the cached build in
//! `target/control-plane/`, a build with Go. The cache's folder is named after the contents of `go.mod` and `go.sum`, the way we
//! build and what code of our own goes in, so that a new version, flag or line never meets an old binary.
//!
//! Never takes a program from the `PATH`: the version would be anybody's.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::go::{Build, tell};

/// The programs of a control plane, and kubectl.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) etcd: PathBuf,
    pub(crate) apiserver: PathBuf,
    pub(crate) controller_manager: PathBuf,
    pub(crate) kubectl: PathBuf,
}

impl Binaries {
    /// Finds them, or builds what is missing.
    pub(crate) fn find() -> Result<Self> {
        let names = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];
        let [etcd, apiserver, controller_manager, kubectl] = find(&CONTROL_PLANE, names)?;
        Ok(Self { etcd, apiserver, controller_manager, kubectl })
    }
}

/// Finds or builds the programs of a control plane, so that a later start takes seconds.
pub fn prepare() -> Result<()> {
    Binaries::find().map(drop)
}

/// The kubectl of the control plane's version.
pub fn kubectl_binary() -> Result<PathBuf> {
    find(&CONTROL_PLANE, ["kubectl"]).map(|[kubectl]| kubectl)
}

/// Helm, of the version that `helm/go.mod` pins.
pub fn helm_binary() -> Result<PathBuf> {
    find(&HELM, ["helm"]).map(|[helm]| helm)
}

/// The program that says what kstatus makes of objects, in `tests/kstatus`.
pub fn kstatus_binary() -> Result<PathBuf> {
    find(&KSTATUS, ["kstatus"]).map(|[kstatus]| kstatus)
}

/// The folder of everything that this crate keeps between runs: `control-plane` in cargo's target folder.
pub fn cache() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let workspace = workspace.canonicalize().unwrap_or(workspace);
    workspace.join(target).join("control-plane")
}

/// A Go module that pins programs, and how they are built from it.
struct Recipe {
    /// Below this crate's folder.
    module: &'static str,
    /// The module that gives all of them their version.
    versioned_by: &'static str,
    /// `-X` names that take the version: `v1.36.3`, `1`, `36`. Without them they call themselves something that other
    /// programs refuse (Helm compares a chart's `kubeVersion`).
    stamps: &'static [(&'static str, Part)],
    programs: &'static [Program],
    what: &'static str,
    usually: &'static str,
}

enum Part {
    Whole,
    Major,
    Minor,
}

struct Program {
    name: &'static str,
    package: &'static str,
    /// What `go build` calls it.
    built_as: &'static str,
}

const CONTROL_PLANE: Recipe = Recipe {
    module: "",
    versioned_by: "k8s.io/kubernetes",
    stamps: &[
        ("k8s.io/component-base/version.gitVersion", Part::Whole),
        ("k8s.io/component-base/version.gitMajor", Part::Major),
        ("k8s.io/component-base/version.gitMinor", Part::Minor),
    ],
    programs: &[
        Program { name: "etcd", package: "go.etcd.io/etcd/server/v3", built_as: "server" },
        Program { name: "kube-apiserver", package: "k8s.io/kubernetes/cmd/kube-apiserver", built_as: "kube-apiserver" },
        Program {
            name: "kube-controller-manager",
            package: "k8s.io/kubernetes/cmd/kube-controller-manager",
            built_as: "kube-controller-manager",
        },
        Program { name: "kubectl", package: "k8s.io/kubernetes/cmd/kubectl", built_as: "kubectl" },
    ],
    what: "the Kubernetes control plane",
    usually: "about five minutes",
};

const HELM: Recipe = Recipe {
    module: "helm",
    versioned_by: "helm.sh/helm/v4",
    stamps: &[("helm.sh/helm/v4/internal/version.version", Part::Whole)],
    programs: &[Program { name: "helm", package: "helm.sh/helm/v4/cmd/helm", built_as: "helm" }],
    what: "Helm",
    usually: "about two minutes",
};

const KSTATUS: Recipe = Recipe {
    module: "../kstatus",
    versioned_by: "sigs.k8s.io/cli-utils",
    stamps: &[],
    programs: &[Program { name: "kstatus", package: "okms-operator.io/tests/kstatus", built_as: "kstatus" }],
    what: "kstatus",
    // Little is left to compile where the control plane was built.
    usually: "about a minute",
};

impl Recipe {
    fn module(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.module)
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.module().join(file);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// The names of the Go files that stand beside `go.mod`, in a lasting order. Where a module only pins, there are none.
    fn own_code(&self) -> Result<Vec<String>> {
        let module = self.module();
        let reading = || format!("reading {}", module.display());
        let entries =
            fs::read_dir(&module).with_context(reading)?.collect::<Result<Vec<_>, _>>().with_context(reading)?;
        let code = entries.into_iter().filter(|entry| entry.path().extension().is_some_and(|of| of == "go"));
        let mut names: Vec<_> = code.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    fn ldflags(&self) -> Result<String> {
        let go_mod = self.read("go.mod")?;
        let version = required(&go_mod, self.versioned_by)
            .with_context(|| format!("{}/go.mod does not require {}", self.module().display(), self.versioned_by))?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let stamps = self.stamps.iter().map(|(name, part)| match part {
            Part::Whole => format!(" -X {name}={version}"),
            Part::Major => format!(" -X {name}={major}"),
            Part::Minor => format!(" -X {name}={minor}"),
        });
        // No symbols and no debug information: nobody debugs these, and it halves their size.
        Ok(format!("-s -w{}", stamps.collect::<String>()))
    }

    /// The folder's name, in the cache, for exactly this recipe.
    fn folder(&self, ldflags: &str) -> Result<String> {
        let mut hash = Sha256::new();
        for text in [&self.read("go.mod")?, &self.read("go.sum")?, ldflags] {
            hash.update(text);
        }
        for file in self.own_code()? {
            hash.update(self.read(&file)?);
        }
        // 64 bits name one of a handful of folders.
        let hash = hash.finalize();
        let digits = hash.first_chunk().copied().map(u64::from_be_bytes);
        let digits = digits.context("a SHA-256 of less than 64 bits")?;
        Ok(format!("{digits:016x}"))
    }

    fn program(&self, name: &str) -> Result<&Program> {
        let program = self.programs.iter().find(|program| program.name == name);
        program.with_context(|| format!("{} has no program {name}", self.what))
    }

    /// Builds those of `names` that the cache does not have, and returns the folder of all.
    fn build_missing(&self, names: &[&str], cache: &Path) -> Result<PathBuf> {
        let ldflags = &self.ldflags()?;
        let folder = cache.join(self.folder(ldflags)?);
        if names.iter().all(|name| folder.join(name).is_file()) {
            return Ok(folder);
        }
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let _lock = lock(&cache.join("lock"))?;
        // Asked again, because whoever held the lock may have built them.
        let missing = names.iter().filter(|name| !folder.join(name).is_file());
        let missing = missing.map(|name| self.program(name)).collect::<Result<Vec<_>>>()?;
        if missing.is_empty() {
            return Ok(folder);
        }
        let into = tempfile::tempdir_in(cache).context("creating a folder to build in")?;
        let packages: Vec<_> = missing.iter().map(|program| program.package).collect();
        let (what, usually) = (self.what, self.usually);
        Build { module: &self.module(), packages: &packages, ldflags, into: into.path(), what, usually }.run()?;
        for program in missing {
            let name = program.name;
            fs::rename(into.path().join(program.built_as), folder.join(name))
                .with_context(|| format!("moving {name} into {}", folder.display()))?;
        }
        Ok(folder)
    }
}

fn find<const N: usize>(recipe: &Recipe, names: [&str; N]) -> Result<[PathBuf; N]> {
    let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    find_in(assets.as_deref(), &cache(), recipe, names)
}

fn find_in<const N: usize>(
    assets: Option<&Path>,
    cache: &Path,
    recipe: &Recipe,
    names: [&str; N],
) -> Result<[PathBuf; N]> {
    let given = names.map(|name| assets.map(|assets| assets.join(name)).filter(|path| path.is_file()));
    let missing: Vec<_> =
        names.iter().zip(&given).filter(|(_, given)| given.is_none()).map(|(name, _)| *name).collect();
    let folder = recipe.build_missing(&missing, cache)?;
    let mut given = given.into_iter();
    Ok(names.map(|name| given.next().flatten().unwrap_or_else(|| folder.join(name))))
}

/// The version at which a `go.mod` requires a module.
fn required<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    let lines = go_mod.lines().filter(|line| !line.contains("=>"));
    lines.map(|line| line.trim_start_matches("require ").split_whitespace()).find_map(|mut words| {
        let version = (words.next() == Some(module)).then(|| words.next());
        version.flatten()
    })
}

/// Takes an exclusive lock, which the system releases when the file is closed, also by a crash.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            tell("waiting for a build that runs already");
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("locking {}", path.display()));
        }
    }
    file.lock().with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_go_mod() {
        let go_mod = "require k8s.io/kubernetes v1.2.3\n\nreplace k8s.io/api => k8s.io/api v0.2.3\n";
        assert_eq!(required(go_mod, "k8s.io/kubernetes"), Some("v1.2.3"));
        assert_eq!(required(go_mod, "k8s.io/api"), None);
        assert_eq!(required("require (\n\thelm.sh/helm/v4 v4.1.0 // indirect\n)", "helm.sh/helm/v4"), Some("v4.1.0"));
    }

    #[test]
    fn the_control_plane_says_which_version_it_is() {
        let ldflags = CONTROL_PLANE.ldflags().unwrap();
        assert!(ldflags.contains("gitVersion=v1.") && ldflags.contains("gitMajor=1 "), "{ldflags}");
    }

    #[test]
    fn what_the_caller_brings_goes_first_and_the_cache_fills_in() {
        let (assets, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ldflags = CONTROL_PLANE.ldflags().unwrap();
        let cached = cache.path().join(CONTROL_PLANE.folder(&ldflags).unwrap());
        fs::create_dir(&cached).unwrap();
        for path in [assets.path().join("etcd"), cached.join("etcd"), cached.join("kubectl")] {
            fs::write(path, "a program").unwrap();
        }
        let find = |assets| find_in(assets, cache.path(), &CONTROL_PLANE, ["kubectl", "etcd"]).unwrap();
        assert_eq!(find(Some(assets.path())), [cached.join("kubectl"), assets.path().join("etcd")]);
        assert_eq!(find(None), [cached.join("kubectl"), cached.join("etcd")]);
    }

    #[test]
    fn another_way_to_build_is_another_folder() {
        assert_ne!(HELM.folder("-s").unwrap(), HELM.folder("-w").unwrap());
    }

    #[test]
    fn other_code_of_our_own_is_another_folder() {
        let module = tempfile::tempdir().unwrap();
        let recipe = Recipe { module: module.path().to_str().unwrap().to_owned().leak(), ..KSTATUS };
        for file in ["go.mod", "go.sum"] {
            fs::write(module.path().join(file), KSTATUS.read(file).unwrap()).unwrap();
        }
        let folders = ["package main", "package main // another"].map(|code| {
            fs::write(module.path().join("main.go"), code).unwrap();
            recipe.folder("-s").unwrap()
        });
        assert_ne!(folders[0], folders[1]);
    }

    #[test]
    fn every_program_is_pinned_as_a_tool() {
        for recipe in [CONTROL_PLANE, HELM] {
            let go_mod = recipe.read("go.mod").unwrap();
            for program in recipe.programs {
                assert!(go_mod.contains(program.package), "{} is not in {}/go.mod", program.package, recipe.module);
            }
        }
    }
}
