//! Runs `go build` and tells the person who waits how far it is.
//!
//! Independent of the caller's Go settings where they would change the result (flags, workspaces, cgo); the module and
//! build caches stay the user's own. What is built, and where it is kept, is said by [`crate::binaries`].

use std::{
    collections::VecDeque,
    fs,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// Long enough not to flood a log, short enough that nobody believes the build hangs.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// How much of a failed build's output is repeated in the error.
const LINES_OF_A_FAILURE: usize = 20;

/// One call of `go build`.
#[derive(Debug)]
pub struct Build<'a> {
    /// The folder of the `go.mod` whose versions count.
    pub module: &'a Path,
    /// Import paths, or `./…` for packages of the module itself.
    pub packages: &'a [&'a str],
    /// Flags for the linker, as in `-ldflags`.
    pub ldflags: &'a str,
    /// An existing folder that receives the binaries, each under the last element of its import path.
    pub into: &'a Path,
    /// What is built, for people: "Helm".
    pub what: &'a str,
    /// How long it takes the first time, for people: "about two minutes".
    pub usually: &'a str,
}

impl Build<'_> {
    /// Builds, with a line of progress every 15 seconds on stderr.
    ///
    /// Fails with one sentence where Go is missing, with the last lines of its output where it failed.
    pub fn run(&self) -> Result<()> {
        let begun = Instant::now();
        tell(&format!("building {} ({} the first time)", self.what, self.usually));
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.cannot_start(error))?;
        let stderr = child.stderr.take().expect("stderr was just asked to be piped");

        let (send, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            // A closed receiver or output that is no text only costs progress: the build's exit status decides.
            let lines = BufReader::new(stderr).lines().map_while(io::Result::ok);
            lines.for_each(|line| drop(send.send(line)));
        });
        let mut progress = Progress::default();
        let mut next = begun + TELL_EVERY;
        loop {
            match lines.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(line) => progress.take(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    tell(&format!("building {}: {}", self.what, progress.after(begun.elapsed())));
                    next += TELL_EVERY;
                }
            }
        }
        let status = child.wait().context("waiting for go build")?;
        drop(reader.join());
        if !status.success() {
            let said = progress.said.make_contiguous().join("\n");
            bail!("go build of {} failed ({status}):\n{said}", self.what);
        }
        tell(&format!("built {} in {}", self.what, duration(begun.elapsed())));
        Ok(())
    }

    fn command(&self) -> Command {
        // `-C` must come first among the flags.
        let mut go = Command::new("go");
        go.arg("build")
            .arg("-C")
            .arg(self.module)
            .args(["-v", "-mod=readonly", "-buildvcs=false", "-ldflags", self.ldflags, "-o"])
            .arg(self.into.join(""))
            .args(self.packages)
            .env("GOFLAGS", "-mod=readonly")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0");
        go
    }

    fn cannot_start(&self, error: io::Error) -> anyhow::Error {
        if error.kind() != io::ErrorKind::NotFound {
            return anyhow::Error::new(error).context("starting go");
        }
        anyhow::anyhow!(
            "{} is built with Go, which is not installed: install Go {} or newer from https://go.dev/dl/ so that `go` is on the PATH",
            self.what,
            required_version(self.module),
        )
    }
}

/// The Go version that a module's `go.mod` asks for.
fn required_version(module: &Path) -> String {
    let text = fs::read_to_string(module.join("go.mod")).unwrap_or_default();
    let version = text.lines().find_map(|line| line.strip_prefix("go "));
    version.unwrap_or("1.26").trim().to_owned()
}

/// What `go build -v` has told so far.
#[derive(Default)]
struct Progress {
    fetched: usize,
    compiled: usize,
    /// The last lines that are neither of these: what is wrong, if anything is.
    said: VecDeque<String>,
}

impl Progress {
    fn take(&mut self, line: String) {
        if line.starts_with("go: downloading ") {
            self.fetched += 1;
        } else if !line.contains(char::is_whitespace) {
            self.compiled += 1;
        } else {
            if self.said.len() == LINES_OF_A_FAILURE {
                self.said.pop_front();
            }
            self.said.push_back(line);
        }
    }

    fn after(&self, elapsed: Duration) -> String {
        let elapsed = duration(elapsed);
        match (self.fetched, self.compiled) {
            (0, 0) => format!("{elapsed}, looking at what is cached"),
            (fetched, 0) => format!("{elapsed}, {fetched} modules fetched"),
            (_, compiled) => format!("{elapsed}, {compiled} packages compiled"),
        }
    }
}

/// Writes a line of progress to stderr.
///
/// Straight to it, because the test harness holds back what goes through `eprintln!` and a first build takes minutes.
pub(crate) fn tell(line: &str) {
    // Progress that nobody can read is no reason to fail.
    drop(writeln!(io::stderr(), "test-cluster: {line}"));
}

fn duration(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build<'a>(module: &'a Path, packages: &'a [&'a str], into: &'a Path) -> Build<'a> {
        Build { module, packages, ldflags: "", into, what: "the example", usually: "seconds" }
    }

    #[test]
    fn a_failing_build_repeats_what_go_said() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("go.mod"), "module example.test/broken\n\ngo 1.26.0\n").unwrap();
        fs::write(folder.path().join("main.go"), "package main\n\nfunc main() { undefinedName() }\n").unwrap();
        let error = build(folder.path(), &["."], folder.path()).run().unwrap_err().to_string();
        assert!(error.contains("undefined: undefinedName"), "{error}");
    }

    #[test]
    fn missing_go_is_said_in_one_sentence_with_the_version_that_is_needed() {
        let module = Path::new(env!("CARGO_MANIFEST_DIR"));
        let error = build(module, &[], module).cannot_start(io::ErrorKind::NotFound.into()).to_string();
        assert!(error.contains("install Go 1.26.0 or newer from https://go.dev/dl/"), "{error}");
    }

    #[test]
    fn progress_tells_fetching_from_compiling() {
        let mut progress = Progress::default();
        progress.take("go: downloading example.test/a v1.0.0".into());
        assert_eq!(progress.after(Duration::from_secs(15)), "15 s, 1 modules fetched");
        progress.take("example.test/a/b".into());
        assert_eq!(progress.after(Duration::from_secs(75)), "1 min 15 s, 1 packages compiled");
        assert!(progress.said.is_empty());
    }
}
