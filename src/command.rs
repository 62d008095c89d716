//! The commands for operators: each asks a running node over HTTP, and prints a page for people or one JSON document.
//!
//! What is asked for goes to standard output; errors and progress go to standard error. Exit codes: 0 done, 1 failed or
//! something wrong was found, 2 called wrongly.

mod api;
mod cache;
mod doctor;
mod http;
mod login;
mod page;
mod progress;
mod session;
mod status;
mod table;
mod words;

use std::{process::ExitCode, time::Duration};

use crate::cli::Operator;

/// How a command ended that did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// All is well.
    Good,
    /// Something wrong was found, and told.
    Bad,
}

/// How long what still runs may keep the process from ending: a look-up of a name cannot be ended before its time.
const LAST_THREADS: Duration = Duration::from_millis(100);

/// Runs a command to its end.
pub(crate) fn run(command: Operator) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(dispatch(command));
            runtime.shutdown_timeout(LAST_THREADS);
            ended
        }
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("roadstead: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Operator) -> anyhow::Result<Verdict> {
    match command {
        Operator::Login(flags) => login::login(&flags).await,
        Operator::Status { access } => status::status(&access).await,
        Operator::Cache(command) => cache::run(command).await,
        Operator::Doctor(flags) => doctor::doctor(flags).await,
    }
}
