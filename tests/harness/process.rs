//! Programs that tests call or keep running: bounded in time, and dead when the test is.
//!
//! The kernel ends what is started here when the thread that started it ends, however it ends (`setpriv --pdeathsig`),
//! so a panic, an abort or a killed test run leaves no process behind. Servers that outlive one test are started from a
//! thread that never ends, see [`Server::start_for_all`].

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a program that a test calls may take; a 1.5 GB layer on a busy machine is the longest.
const PROGRAM_SECONDS: &str = "240";

/// How long a server may take to serve, and anything else that has no figure of its own to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A command that is killed when it has run for too long, or when the calling thread ends.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = dies_with_caller("timeout");
    command.args(["-s", "KILL", PROGRAM_SECONDS, "setpriv", "--pdeathsig", "KILL", "--"]).arg(name);
    command.env("PATH", path_with_system_directories()).stdin(Stdio::null());
    command
}

/// One of the programs that `tests/setup` puts into the cache.
pub(crate) fn cached(name: &str) -> PathBuf {
    let path = cache().join("bin").join(name);
    assert!(path.exists(), "{} is missing: run tests/setup", path.display());
    path
}

/// Runs a command to its end and gives its standard output; panics, with everything it said, when it fails.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} did not start: {error}; run tests/setup"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}{said}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

/// Calls `probe` until it gives something, panics with `what` after `patience`.
pub(crate) fn wait_for<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A process that runs until it is told to end, its output in a file that is shown when the test panics.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a command; it dies with the calling thread. What `command` runs is `name` in messages.
    pub(crate) fn start(name: &str, log: &Path, command: &mut Command) -> Self {
        let (out, err) = (append(log), append(log));
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} did not start: {error}; run tests/setup"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// As [`Server::start`], for a server that all tests of this process share: it dies with the process.
    pub(crate) fn start_for_all(name: &str, log: &Path, mut command: Command) -> Self {
        let (name, log) = (name.to_owned(), log.to_owned());
        let (answer, started) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = answer.send(Self::start(&name, &log, &mut command));
        });
        keeper().send(job).expect("the keeper thread never ends");
        started.recv().expect("the keeper answers")
    }

    /// A server whose output is read by the caller.
    pub(crate) fn adopt(name: &str, log: &Path, child: Child) -> Self {
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Calls `probe` until it is true; panics when the server ends before, or after [`PATIENCE`].
    pub(crate) fn serves_when(&mut self, mut probe: impl FnMut() -> bool) {
        let start = Instant::now();
        while !probe() {
            let ended = self.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "{} ended with {ended:?}\n{}", self.name, self.log());
            assert!(
                start.elapsed() < PATIENCE,
                "{} does not serve after {PATIENCE:?}\n{}",
                self.name,
                self.log()
            );
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let from = log.char_indices().rev().nth(6000).map_or(0, |(at, _)| at);
        format!("last words of {}:\n{}", self.name, &log[from..])
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs, or waits to be reaped");
    }

    /// Whether it has ended, and with what code (a signal: `None` within).
    pub(crate) fn ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().expect("it is our child").map(|status| status.code())
    }

    /// SIGKILL, and wait for the end.
    pub(crate) fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and wait for the end; panics when it takes longer than `patience`. Gives the exit code.
    pub(crate) fn terminate(&mut self, patience: Duration) -> Option<i32> {
        self.signal(Signal::TERM);
        let name = self.name.clone();
        wait_for(&format!("{name} ends after SIGTERM"), patience, || self.ended())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        self.kill9();
    }
}

/// A command that the kernel kills when the calling thread ends.
pub(crate) fn dies_with_caller(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(name);
    command.env("PATH", path_with_system_directories());
    command
}

fn path_with_system_directories() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("TOOLS_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|path| path.join("roadstead")))
        .or_else(|| variable("HOME").map(|path| path.join(".cache/roadstead")))
        .expect("HOME is set")
}

fn append(path: &Path) -> File {
    File::options().create(true).append(true).open(path).expect("a log can be written")
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that starts what all tests share; it lives as long as the process.
fn keeper() -> &'static mpsc::Sender<Job> {
    static KEEPER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    KEEPER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        sender
    })
}
