//! A server under test: its process, its directory, what memory and processor time it takes.
//! Dropping it ends the process and removes the directory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::machine::{parent_of, processor_of};
use crate::wire::{Connection, request};

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(15);
/// How long it may take to end before it is killed.
const END: Duration = Duration::from_secs(5);

/// A running server.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
    directory: TempDir,
    /// Held open so that a server that prints more than its ready line does not die of it.
    _output: Option<BufReader<ChildStdout>>,
}

/// Resident memory of a node and all its processes, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) peak: u64,
    pub(crate) now: u64,
}

impl Node {
    /// Starts a server that listens on `address` and is ready when it answers `GET path`.
    pub(crate) fn start(
        name: &'static str,
        directory: TempDir,
        address: SocketAddr,
        path: &str,
        command: &mut Command,
    ) -> Result<Self> {
        let mut child = spawn(name, &directory, command.stdout(Stdio::null()))?;
        let begun = Instant::now();
        while !answers(address, path) {
            if child.try_wait()?.is_some() || begun.elapsed() > START {
                let _ = child.kill();
                child.wait()?;
                bail!("{name} did not start:\n{}", log_end(directory.path()));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(Self { name, address, child, directory, _output: None })
    }

    /// Starts a server that says on standard output, in one line, when and where it serves (`http=ADDRESS`).
    pub(crate) fn start_announced(
        name: &'static str,
        directory: TempDir,
        command: &mut Command,
    ) -> Result<Self> {
        let mut child = spawn(name, &directory, command.stdout(Stdio::piped()))?;
        let mut output = BufReader::new(child.stdout.take().context("standard output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("http="))
            .and_then(|list| list.split(',').next())
            .and_then(|a| a.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            child.wait()?;
            bail!("{name} did not start ({line:?}):\n{}", log_end(directory.path()));
        };
        Ok(Self { name, address, child, directory, _output: Some(output) })
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Memory now, and the most since the last `forget_peak`.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let mut memory = Memory::default();
        for pid in self.processes()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            memory.peak += kibibytes(&status, "VmHWM:");
            memory.now += kibibytes(&status, "VmRSS:");
        }
        ensure!(memory.now > 0, "{} is gone:\n{}", self.name, log_end(self.directory()));
        Ok(memory)
    }

    /// Makes the present memory the peak (`clear_refs`, 5).
    pub(crate) fn forget_peak(&self) -> Result<()> {
        for pid in self.processes()? {
            fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        }
        Ok(())
    }

    /// Processor time taken so far, user and system, in seconds.
    pub(crate) fn processor(&self) -> Result<f64> {
        self.processes()?.iter().map(|pid| processor_of(&pid.to_string())).sum()
    }

    /// The process and its children (a web server's workers).
    fn processes(&self) -> Result<Vec<u32>> {
        let parent = self.child.id();
        let mut pids = vec![parent];
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
            if parent_of(&pid.to_string()).is_ok_and(|of| of == parent) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let begun = Instant::now();
        while begun.elapsed() < END && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that nobody listens on, for servers that cannot choose one themselves.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn spawn(name: &str, directory: &TempDir, command: &mut Command) -> Result<Child> {
    let log = fs::File::create(log_path(directory.path()))?;
    command
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {name}: {}", command.get_program().display()))
}

fn answers(address: SocketAddr, path: &str) -> bool {
    let ask = || Connection::open(address)?.ask(&request("GET", address, path));
    ask().is_ok_and(|answer| answer.status == 200)
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("log")
}

/// The last lines that a server wrote to standard error.
fn log_end(directory: &Path) -> String {
    let log = fs::read_to_string(log_path(directory)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

fn kibibytes(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
