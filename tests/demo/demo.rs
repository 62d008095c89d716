//! `make demo`: the main promise of Roadstead as a story that is told while it happens, on this machine, in half a minute.
//!
//! Everything runs in a temporary directory and is checked where it is said ([`story`]). On a terminal the edges then stay
//! up until Ctrl-C; elsewhere the demo ends. No process outlives it, however it ends.
//!
//! Exit code: 0 when everything was true, 1 when something was not, 130 when it was interrupted.

mod full_disk;
mod image;
mod node;
mod registry;
mod report;
mod story;

use std::{fs, io::IsTerminal as _, path::Path, process::ExitCode};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use registry::{REPOSITORY, TAG};

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == node::BECOME_NODE) {
        node::run_and_die_with_parent(arguments)?;
    }
    tokio::runtime::Runtime::new()?.block_on(demo())
}

async fn demo() -> Result<ExitCode> {
    let home = tempfile::Builder::new().prefix("roadstead-demo-").tempdir()?;
    let mut asked_to_end = std::pin::pin!(asked_to_end()?);
    // The nodes belong to the story: whatever ends it drops them, and dropping them ends them.
    let told = tokio::select! {
        told = story::tell(home.path()) => told,
        () = &mut asked_to_end => return Ok(ExitCode::from(130)),
    };
    match told {
        Ok(told) => {
            if std::io::stdout().is_terminal() {
                invite(&told);
                asked_to_end.await;
                println!("\nThe edges end here, and their data with them.");
            }
            Ok(if told.all_true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            println!("   ✗ {error:#}");
            print_logs(home.path())?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Comes back on Ctrl-C, SIGTERM, or when the terminal is closed. From this call on none of them ends the process itself.
fn asked_to_end() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

fn invite(told: &story::Told) {
    let [edge_a, edge_b] = [told.edge_a.address(), told.edge_b.address()];
    println!(
        "The origin is still dead, and both edges stay up until you press Ctrl-C. Pull from them with what you have:\n"
    );
    println!("   docker pull {edge_a}/{REPOSITORY}:{TAG}");
    println!("   podman pull --tls-verify=false {edge_b}/{REPOSITORY}:{TAG}");
    println!("   ctr images pull --plain-http {edge_a}/{REPOSITORY}:{TAG}\n");
    println!("What they count: curl http://{edge_a}/metrics");
}

/// The end of every node's log, for whoever has to find out what went wrong.
fn print_logs(home: &Path) -> Result<()> {
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = fs::read_to_string(&path)?;
            let lines: Vec<_> = text.lines().collect();
            println!("\nThe end of {}:", path.file_name().unwrap_or_default().display());
            lines.iter().skip(lines.len().saturating_sub(20)).for_each(|line| println!("   {line}"));
        }
    }
    Ok(())
}
