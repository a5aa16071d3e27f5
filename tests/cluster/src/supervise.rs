//! Processes that end with their owner, whatever way it ends: return, panic, Ctrl-C, SIGKILL.
//!
//! A destructor cannot promise that, so the promise is the system's: each process runs under a small shell that reads from
//! a pipe whose other end only the owner holds. Nothing is ever written to it; the system closes it when the owner is gone,
//! and the shell, at the end of its input, kills its process. (A parent-death signal would follow the owner's *thread*.)
//!
//! The same goes for the [`Folder`]: its shell removes it at the end of a pipe that the owner and all those other shells
//! hold, so only when the last process is gone. A normal end takes exactly the same way, which is therefore the tested one.
//!
//! The shells stand in process groups of their own, where a terminal's Ctrl-C does not reach them.

use std::{
    fs,
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};

/// How much of a log is repeated when its process ended early.
const LINES_OF_A_LOG: usize = 15;

/// Runs `"$@"` with its output added to file `$1` until it ends or standard input does.
///
/// Standard output is held and never written to: it is the folder's pipe. SIGKILL, because the data is thrown away.
const WATCHDOG: &str = r#"
log=$1; shift
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- & process=$!
trap 'kill -9 "$process"' HUP INT TERM
{ read -r _; kill -9 "$process"; } <&3 >/dev/null 2>&1 & owner=$!
wait "$process"; status=$?
kill "$owner" 2>/dev/null
exit "$status"
"#;

/// Removes folder `$1` when standard input ends.
const JANITOR: &str = r#"
trap '' HUP INT TERM
read -r _
rm -rf -- "$1"
"#;

/// A temporary folder that is gone after its owner and the last [`Process`] in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    janitor: Child,
}

impl Folder {
    /// Creates it, readable by this user only.
    pub fn create(prefix: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir().context("creating a temporary folder")?;
        let janitor = shell(JANITOR)
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("starting sh, which removes the temporary folder")?;
        Ok(Self { path: folder.keep(), janitor })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file with the output of the processes of this name.
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join(name).with_extension("log")
    }

    /// Starts a process, its output added to `<name>.log` in the folder.
    ///
    /// Of the command count the program, its arguments, the variables set or removed and the working folder.
    pub fn run(&self, name: &'static str, command: &Command) -> Result<Process> {
        let log = self.log(name);
        let pipe = self.janitor.stdin.as_ref().context("the folder is being removed")?;
        let pipe = pipe.as_fd().try_clone_to_owned().context("sharing the folder's pipe")?;
        let mut shell = shell(WATCHDOG);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        let watchdog = shell
            .arg(&log)
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(pipe)
            .spawn()
            .with_context(|| format!("starting sh to run {name}"))?;
        Ok(Process { name, log, watchdog })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Waiting closes the pipe first; nobody is left to tell if it fails.
        drop(self.janitor.wait());
    }
}

/// A process that ends with its owner.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    log: PathBuf,
    watchdog: Child,
}

impl Process {
    /// The file that receives its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Fails, with the end of its log, if the process has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.watchdog.try_wait().with_context(|| format!("asking after {}", self.name))? {
            None => Ok(()),
            Some(status) => bail!("{}", self.obituary(status)),
        }
    }

    fn obituary(&self, status: ExitStatus) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let mut lines: Vec<_> = log.lines().rev().take(LINES_OF_A_LOG).collect();
        lines.reverse();
        format!("{} ended ({status}), its log with:\n{}", self.name, lines.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Waiting closes the pipe first, which is what ends the process.
        drop(self.watchdog.wait());
    }
}

fn shell(script: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    // The word after the script is `$0`, the name in the shell's own messages.
    shell.args(["-c", script, "watchdog"]);
    // Its own messages (that a process was killed) are for nobody, and it must not hold the owner's stderr open.
    shell.stderr(Stdio::null()).process_group(0);
    shell
}

#[cfg(test)]
mod tests {
    use std::{
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    /// Waits until a process has ended by itself, and returns what is told about it.
    fn end_of(process: &mut Process) -> String {
        eventually(|| process.check().err()).to_string()
    }

    fn eventually<T>(mut state: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(reached) = state() {
                return reached;
            }
            assert!(Instant::now() < deadline, "not within 30 seconds");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_alive(id: &str) -> bool {
        let asked = sh(&format!("kill -0 {id}")).stderr(Stdio::null()).status();
        asked.unwrap().success()
    }

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_folder_is_gone_when_it_is_dropped() {
        let folder = Folder::create("supervise-").unwrap();
        let path = folder.path().to_owned();
        fs::write(path.join("file"), "content").unwrap();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_process_is_gone_when_it_is_dropped() {
        let folder = Folder::create("supervise-").unwrap();
        let process = folder.run("sleeper", &sh("echo $$; exec sleep 600")).unwrap();
        let log = eventually(|| {
            let log = fs::read_to_string(process.log()).ok()?;
            log.strip_suffix('\n').map(str::to_owned)
        });
        let id = log.trim();
        assert!(is_alive(id));
        drop(process);
        assert!(!is_alive(id));
    }

    #[test]
    fn an_early_end_is_told_with_the_end_of_the_log() {
        let folder = Folder::create("supervise-").unwrap();
        let mut process = folder.run("loser", &sh("echo the reason >&2; exit 7")).unwrap();
        let error = end_of(&mut process);
        assert!(error.contains("loser ended (exit status: 7)") && error.contains("the reason"), "{error}");
    }

    #[test]
    fn variables_and_the_working_folder_reach_the_process() {
        let folder = Folder::create("supervise-").unwrap();
        let mut command = sh("echo \"$GREETING in $(basename \"$PWD\")\"");
        command.env("GREETING", "hello").current_dir("/usr");
        let mut process = folder.run("greeter", &command).unwrap();
        end_of(&mut process);
        assert_eq!(fs::read_to_string(process.log()).unwrap(), "hello in usr\n");
    }

    #[test]
    fn arguments_reach_the_process_as_they_are() {
        let folder = Folder::create("supervise-").unwrap();
        let mut command = Command::new("printf");
        command.args(["%s|", "two words", "$HOME", "it's"]);
        let mut process = folder.run("printer", &command).unwrap();
        end_of(&mut process);
        assert_eq!(fs::read_to_string(process.log()).unwrap(), "two words|$HOME|it's|");
    }
}
