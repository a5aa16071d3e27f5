//! The simulator as a program: starts it, writes what a client needs, says where it is, runs until told to end.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use okms_sim::{Admin, Options, Sim, Validity};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Simulate OVHcloud OKMS Secret Manager on this machine, over real TLS with client certificates.
///
/// Everything is kept in memory and listens on loopback only. When it is ready, one line
/// of JSON on standard output says where it is:
///
///   {"ready":true,"endpoint":"https://127.0.0.1:…","admin":"http://127.0.0.1:…","okmsId":"…"}
#[derive(Parser)]
#[command(version, verbatim_doc_comment, after_long_help = EXAMPLES)]
struct Arguments {
    /// Where OKMS's API listens (TLS); port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Where the admin port listens (plain HTTP, JSON): secrets, certificates, faults, switches, counters.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    admin: SocketAddr,

    /// Write into this folder: ca.crt (the server's authority), tls.crt and tls.key (a client certificate that may do
    /// everything, 365 days), okms-id.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,

    /// The domain's id, a UUID; a new one if absent.
    #[arg(long, value_name = "UUID")]
    okms_id: Option<Uuid>,

    /// End when standard input ends, so that nothing is left behind when the program that started this one dies.
    #[arg(long)]
    until_stdin_closes: bool,
}

const EXAMPLES: &str = r#"Try it:

  okms-sim --listen 127.0.0.1:8443 --admin 127.0.0.1:8444 --dir /tmp/okms &

  # Write a secret as the administrator, read it as a client:
  curl -s http://127.0.0.1:8444/domains/first/secrets \
    --json '{"path":"prod/db","data":{"password":"s3cret"}}'
  curl -s --cacert /tmp/okms/ca.crt --cert /tmp/okms/tls.crt --key /tmp/okms/tls.key \
    https://127.0.0.1:8443/api/$(cat /tmp/okms/okms-id)/v1/secret/data/prod%2Fdb

  # Fail the next three requests below prod/, look at what was asked:
  curl -s http://127.0.0.1:8444/faults \
    --json '{"kind":{"status":{"status":503,"retryAfter":"2"}},"path":"prod/*","times":3}'
  curl -s http://127.0.0.1:8444/counters

tests/okms-sim/README.md lists the admin port's routes, the faults, and the switches for
what is unknown of OKMS."#;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("okms-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let options = Options { listen: arguments.listen, okms_id: arguments.okms_id, ..Options::default() };
    let sim = Arc::new(Sim::start(options).await?);
    let admin = Admin::start(Arc::clone(&sim), arguments.admin).await?;
    if let Some(folder) = &arguments.dir {
        write_files(&sim, folder)?;
    }
    let ready = json!({
        "ready": true,
        "endpoint": sim.endpoint(),
        "tokenEndpoint": sim.token_endpoint(),
        "admin": admin.endpoint(),
        "okmsId": sim.domain().okms_id(),
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ready}")?;
    stdout.flush()?;
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        () = stdin_closed(), if arguments.until_stdin_closes => {}
    }
    Ok(())
}

fn write_files(sim: &Sim, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let domain = sim.domain();
    let client = domain.issue_client_certificate(Validity::default())?;
    write_file(folder, "ca.crt", &sim.server_ca_pem())?;
    write_file(folder, "tls.crt", &client.cert_pem)?;
    write_file(folder, "tls.key", &client.key_pem)?;
    write_file(folder, "okms-id", &domain.okms_id())
}

/// Only the owner may read what is written: one of the files is a key.
fn write_file(folder: &Path, name: &str, content: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.join(name);
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}

async fn stdin_closed() {
    let (closed, wait) = oneshot::channel();
    // A thread of its own, because a blocked read would hold up the runtime's end.
    std::thread::spawn(move || {
        let mut unread = [0; 256];
        while std::io::stdin().read(&mut unread).is_ok_and(|bytes| bytes > 0) {}
        // Nobody waits any more when a signal came first.
        let _ = closed.send(());
    });
    // An error means that the thread is gone, which is an end of standard input too.
    let _ = wait.await;
}
