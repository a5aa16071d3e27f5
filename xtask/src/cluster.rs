//! `cargo xtask cluster up|down`: a control plane for playing by hand.
//!
//! `up` starts a second process of this program that holds the control plane, and returns when it is ready. That process
//! holds a lock on a file for as long as it lives, so `down` knows that the process id written there is still this process.
//! What happens to the control plane when its holder ends is the business of `test_cluster::supervise`.

use std::{
    env,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use test_cluster::{ControlPlane, binaries};

use crate::run;

/// Ending takes well under a second; a machine that swaps may need longer.
const END: Duration = Duration::from_mins(1);

/// What the holder prints when the control plane is ready.
const READY: &str = "ready";

/// Starts and ends a Kubernetes control plane on this machine.
///
/// etcd, kube-apiserver and kube-controller-manager, on loopback only, with all data in a temporary folder. There are no nodes:
/// objects are stored, checked and garbage-collected as in any cluster, but no pod runs.
#[derive(clap::Subcommand)]
pub(crate) enum Task {
    /// Starts a control plane and returns when it is ready.
    ///
    /// Prints KUBECONFIG=<file> and kubectl=<program>. The first time it is built with Go, which takes minutes. If it is
    /// running already, prints the same and changes nothing.
    #[command(after_help = "Example: eval \"$(cargo xtask cluster up)\"; export KUBECONFIG; $kubectl get namespaces")]
    Up {
        #[command(flatten)]
        place: Place,

        /// Stays, and ends the control plane with Ctrl-C.
        #[arg(long)]
        foreground: bool,
    },
    /// Ends the control plane that `up` started, with all its data.
    Down {
        #[command(flatten)]
        place: Place,
    },
}

/// Where `up` and `down` meet.
#[derive(clap::Args)]
pub(crate) struct Place {
    /// The folder for the kubeconfig [default: target/control-plane/run]. Another folder is another control plane.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Task {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Up { place, foreground: true } => hold(&place.state()?),
            Self::Up { place, foreground: false } => up(&place.state()?),
            Self::Down { place } => down(&place.state()?),
        }
    }
}

impl Place {
    fn state(self) -> Result<State> {
        let folder = self.folder.unwrap_or_else(|| binaries::cache().join("run"));
        let folder = std::path::absolute(folder).context("finding the current folder")?;
        Ok(State { folder })
    }
}

/// The folder in which `up` leaves what `down` and people need.
struct State {
    folder: PathBuf,
}

impl State {
    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    fn kubectl(&self) -> PathBuf {
        self.folder.join("kubectl")
    }

    /// What the holder says on stderr, for the case that it does not come up.
    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The file that the holder locks. Its lines: the holder's process id; once ready, the control plane's folder.
    fn holder_file(&self) -> PathBuf {
        self.folder.join("holder")
    }

    fn holder(&self) -> Result<File> {
        fs::create_dir_all(&self.folder).with_context(|| format!("creating {}", self.folder.display()))?;
        let path = self.holder_file();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        file.with_context(|| format!("opening {}", path.display()))
    }

    /// The lock, or nothing while a holder lives.
    fn lock(&self) -> Result<Option<File>> {
        let holder = self.holder()?;
        match holder.try_lock() {
            Ok(()) => Ok(Some(holder)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).context("locking the control plane's state"),
        }
    }

    /// Removes what `up` wrote, and the folder if nothing else is in it: it may be anybody's.
    fn clear(&self) -> Result<()> {
        for path in [self.kubeconfig(), self.kubectl(), self.log(), self.holder_file()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                _ => {}
            }
        }
        drop(fs::remove_dir(&self.folder));
        Ok(())
    }

    #[expect(clippy::print_stdout, reason = "the answer, which scripts read")]
    fn tell(&self) {
        let (kubeconfig, kubectl) = (self.kubeconfig(), self.kubectl());
        println!("KUBECONFIG={}", kubeconfig.display());
        println!("kubectl={}", kubectl.display());
        eprintln!("Try: KUBECONFIG={} {} get namespaces", kubeconfig.display(), kubectl.display());
        eprintln!("End it with: cargo xtask cluster down");
    }
}

fn up(state: &State) -> Result<()> {
    // Here, where the person sees its progress; the holder finds it cached.
    binaries::prepare()?;
    if state.lock()?.is_none() {
        eprintln!("The control plane is running already.");
        state.tell();
        return Ok(());
    }
    let log = File::create(state.log()).with_context(|| format!("creating {}", state.log().display()))?;
    let mut holder = Command::new(env::current_exe().context("finding this program")?)
        .args(["cluster", "up", "--foreground", "--folder"])
        .arg(&state.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // Out of reach of this terminal's Ctrl-C.
        .process_group(0)
        .spawn()
        .context("starting the process that holds the control plane")?;
    let stdout = holder.stdout.take().context("the holder has no stdout")?;
    if BufReader::new(stdout).lines().map_while(Result::ok).any(|line| line == READY) {
        state.tell();
        return Ok(());
    }
    holder.wait().context("waiting for the process that holds the control plane")?;
    bail!("{}", fs::read_to_string(state.log()).unwrap_or_default().trim_start_matches("error: ").trim())
}

/// Holds a control plane until this process is ended; its pipes then end the rest.
fn hold(state: &State) -> Result<()> {
    let Some(mut holder) = state.lock()? else {
        bail!("a control plane is running already: `cargo xtask cluster down` ends it");
    };
    holder.set_len(0).and_then(|()| writeln!(holder, "{}", process::id())).context("writing our process id")?;
    let cluster = ControlPlane::start()?;
    fs::write(state.kubeconfig(), cluster.kubeconfig_yaml()).context("writing the kubeconfig")?;
    replace_link(&state.kubectl(), &cluster.kubectl())?;
    let folder = cluster.kubeconfig().parent().context("the control plane has no folder")?;
    writeln!(holder, "{}", folder.display()).context("writing the control plane's folder")?;
    announce();
    loop {
        thread::park();
    }
}

#[expect(clippy::print_stdout, reason = "`up` reads it")]
fn announce() {
    println!("{READY}");
}

fn replace_link(link: &Path, to: &Path) -> Result<()> {
    // It may lead to a version that is not used any more.
    if link.is_symlink() {
        fs::remove_file(link).with_context(|| format!("removing {}", link.display()))?;
    }
    symlink(to, link).with_context(|| format!("linking {}", link.display()))
}

fn down(state: &State) -> Result<()> {
    if state.lock()?.is_some() {
        eprintln!("No control plane is running.");
    } else {
        let mut written = String::new();
        state.holder()?.read_to_string(&mut written).context("reading the holder's process id")?;
        let mut lines = written.lines();
        let id = lines.next().context("the control plane is only just starting: try again")?;
        let id: u32 = id.parse().context("the holder's process id is no number")?;
        run::output(Command::new("sh").args(["-c", "kill \"$1\"", "kill", &id.to_string()]))?;
        wait("its process to end", || Ok(state.lock()?.is_some()))?;
        if let Some(folder) = lines.next() {
            wait("its folder to be removed", || Ok(!Path::new(folder).exists()))?;
        }
        eprintln!("The control plane has ended.");
    }
    state.clear()
}

fn wait(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + END;
    while !done()? {
        if Instant::now() > deadline {
            bail!("the control plane does not end: waited {} seconds for {what}", END.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
