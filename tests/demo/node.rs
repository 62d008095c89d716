//! One `roadstead` process of the demo: started, watched until it serves, asked for its metrics, ended.
//!
//! A node never outlives the demo. Dropping it ends it, and should the demo itself be killed with SIGKILL, the kernel ends
//! the node: it is started by way of [`run_and_die_with_parent`], which asks for that and then becomes the node.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use crate::registry::Registry;

/// The argument that makes the demo's own program become a node instead. Followed by the demo's process id and the command.
pub(crate) const BECOME_NODE: &str = "--become-node";

/// A node serves within 5 s of its start; twice that is a failure to start.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// How long an orderly end may take before the node is killed: nothing runs on it by then.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A running `roadstead origin` or `roadstead edge`.
#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    address: String,
    child: Child,
    /// Held open, so that the node can go on writing to it.
    _stdout: BufReader<ChildStdout>,
}

impl Node {
    /// Starts `roadstead ROLE --data HOME/NAME …` and returns once it says that it is ready. Its log is `HOME/NAME.log`.
    pub(crate) async fn start(program: &Path, home: &Path, name: &str, arguments: &[&str]) -> Result<Self> {
        let log = home.join(format!("{name}.log"));
        let mut command = vec![program.into()];
        command.extend(arguments.iter().map(OsString::from));
        command.extend(["--listen".into(), "127.0.0.1:0".into(), "--data".into(), home.join(name).into()]);
        command.extend(["--set".into(), format!("node.name={name}").into()]);

        let mut become_node = Command::new(std::env::current_exe()?);
        // A node reads settings from there, and the demo shows the defaults.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROADSTEAD_"))
        {
            become_node.env_remove(name);
        }
        let mut child = become_node
            .arg(BECOME_NODE)
            .arg(std::process::id().to_string())
            .args(&command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            // A group of its own: Ctrl-C is for the demo, which then ends its nodes in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} could not be started"))?;
        let stdout = BufReader::new(child.stdout.take().context("the node has a pipe for standard output")?);

        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = stdout;
            let mut line = String::new();
            let read = stdout.read_line(&mut line);
            // Nobody waits any more when the deadline has passed: the node is dead then, and so is this answer.
            drop(sender.send((read, line, stdout)));
        });
        let answer = tokio::task::spawn_blocking(move || receiver.recv_timeout(START_DEADLINE)).await?;
        let address = |line: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix("http=")).map(str::to_owned)
        };
        match answer {
            Ok((Ok(_), line, stdout)) if line.starts_with("ready ") && address(&line).is_some() => Ok(Self {
                name: name.to_owned(),
                address: address(&line).unwrap_or_default(),
                child,
                _stdout: stdout,
            }),
            _ => {
                child.kill()?;
                child.wait()?;
                bail!("{name} did not say that it is ready")
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Host and port, as clients and edges write it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// The sum of all series of a counter; 0 before the first one is counted.
    pub(crate) async fn metric(&self, name: &str) -> Result<u64> {
        let text = Registry::new(&self.address).get_text("/metrics").await?;
        Ok(text
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with(['{', ' ']))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok())
            .sum())
    }

    /// SIGKILL: no good-bye, no flush, nothing.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{} (process {}) could not be stopped: {error}", self.name, self.child.id());
        }
    }
}

/// Becomes the command in `arguments` (the demo's process id, the program, its arguments); the kernel ends it when the
/// demo's main thread ends, in whatever way. Comes back only with what went wrong.
pub(crate) fn run_and_die_with_parent(mut arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let parent = arguments.next().context("the demo's process id is missing")?;
    let program = arguments.next().context("the program is missing")?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The demo may have died before the line above; then nobody would end this process.
    let parent: i32 = parent.to_string_lossy().parse()?;
    ensure!(getppid().map(Pid::as_raw_pid) == Some(parent), "the demo is gone");
    Err(Command::new(&program).args(arguments).exec())
        .with_context(|| format!("{} could not be run", program.to_string_lossy()))
}
