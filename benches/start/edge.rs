//! An edge as a process.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long an edge may take to know its blobs; the first time it reads each of them.
const PATIENCE: Duration = Duration::from_secs(900);

/// See the module.
#[derive(Debug)]
pub(crate) struct Edge {
    child: Child,
    address: SocketAddr,
}

impl Edge {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start(data: &Path, upstream: SocketAddr) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_roadstead"))
            .args(["edge", "--listen", "127.0.0.1:0", "--upstream", &format!("http://{upstream}")])
            .args(["--set", "cache.keep_free=0", "--set", "cache.capacity=1 TiB", "--data"])
            .arg(data.join("."))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("it was piped")?).read_line(&mut line)?;
        let address = line.split(' ').find_map(|part| part.strip_prefix("http=")?.parse().ok());
        Ok(Self { child, address: address.with_context(|| format!("not ready: {line:?}"))? })
    }

    /// Asks for a path: the status, and how many bytes came.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, u64)> {
        let answer = self.ask(path)?;
        let end = answer.windows(4).position(|at| at == b"\r\n\r\n").context("a head")?;
        let status = std::str::from_utf8(&answer[9..12])?.parse()?;
        Ok((status, (answer.len() - end - 4) as u64))
    }

    fn ask(&self, path: &str) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.len() > 12, "an answer");
        Ok(answer)
    }

    /// Waits until it says that it holds so many blobs.
    pub(crate) fn waits_for_blobs(&mut self, count: u64) -> Result<()> {
        let began = Instant::now();
        loop {
            let metrics = String::from_utf8(self.ask("/metrics")?)?;
            let line = metrics.lines().find_map(|line| line.strip_prefix("roadstead_cache_blobs "));
            if line.context("the metric")?.parse::<u64>()? >= count {
                return Ok(());
            }
            if began.elapsed() > PATIENCE || self.child.try_wait()?.is_some() {
                bail!("it does not know its blobs after {:?}", began.elapsed());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// A figure of `/proc/<pid>/status`, in bytes.
    pub(crate) fn memory(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kibibytes: u64 = line.context("the kernel tells it")?.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024)
    }

    /// Tells it to end, and waits until it has written down what it holds.
    pub(crate) fn ends(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the edge ended with {status}");
        Ok(())
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
