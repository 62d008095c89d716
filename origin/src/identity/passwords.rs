//! Passwords: argon2id, on threads of its own, so that logins never hold up what serves pulls.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    thread,
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc},
};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::sync::oneshot;

use super::queue::Queue;
use crate::{database::accounts::PasswordHash, metrics::Metrics, settings::Secret};

/// Logins that may wait for their turn.
pub(crate) const MAX_WAITING: usize = 1_000;
/// The longest password, in bytes.
pub(crate) const MAX_PASSWORD: usize = 1_024;
/// The share of the processors that hash at once: the rest is for those who pull.
const SHARE: usize = 2;
/// The niceness of the threads that hash.
const LOWEST: i32 = 19;
/// Salts the work that is done for a name that does not exist, so that it takes as long as for one that does.
const NO_SALT: &[u8] = b"nobody is called so";

/// Why a password was not hashed or compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// [`MAX_WAITING`] logins wait already.
    #[error("more logins wait than this node takes")]
    Busy,
    #[error("a password is 1 to {MAX_PASSWORD} bytes, without control characters")]
    Unfit,
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

/// Hashes and compares passwords; dropped, its threads end.
#[derive(Debug)]
pub(crate) struct Passwords {
    queue: Arc<Queue<Asker, Job>>,
    metrics: Metrics,
}

/// One network address, as far as a single client has it for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asker(Option<IpAddr>);

impl Asker {
    /// An IPv4 address, or the /64 of an IPv6 address: one client has all of it.
    pub(crate) fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(|address| match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        }))
    }
}

enum Job {
    Hash { password: Secret, reply: oneshot::Sender<Result<PasswordHash, PasswordError>> },
    Compare { password: Secret, hash: Option<PasswordHash>, reply: oneshot::Sender<bool> },
}

impl Passwords {
    /// Starts the threads.
    pub(crate) fn start(metrics: Metrics) -> Self {
        let queue = Arc::new(Queue::new(MAX_WAITING));
        let processors = thread::available_parallelism().map_or(1, usize::from);
        for number in 0..(processors / SHARE).max(1) {
            let (queue, hashes): (Arc<Queue<Asker, Job>>, _) =
                (queue.clone(), metrics.password_hashes.clone());
            let work = move || {
                yield_to_others();
                while let Some(job) = queue.next() {
                    job.run(&hashes);
                }
            };
            if let Err(error) = thread::Builder::new().name(format!("password-{number}")).spawn(work) {
                tracing::error!(%error, "a thread for logins could not be started");
            }
        }
        Self { queue, metrics }
    }

    /// What is kept of a new password.
    pub(crate) async fn hash(
        &self,
        password: &Secret,
        from: Option<IpAddr>,
    ) -> Result<PasswordHash, PasswordError> {
        let text = password.expose();
        if text.is_empty() || text.len() > MAX_PASSWORD || text.chars().any(char::is_control) {
            return Err(PasswordError::Unfit);
        }
        let (reply, answer) = oneshot::channel();
        let job = Job::Hash { password: password.clone(), reply };
        self.queue.push(Asker::of(from), job).map_err(|_full| PasswordError::Busy)?;
        answer.await.unwrap_or(Err(PasswordError::Busy))
    }

    /// Whether a password is the one that was hashed. Without a hash it is not, after the same work.
    ///
    /// # Cancel safety
    /// Work that nobody waits for any more is not done.
    pub(crate) async fn is_right(
        &self,
        password: &Secret,
        hash: Option<PasswordHash>,
        from: Option<IpAddr>,
    ) -> Result<bool, PasswordError> {
        let (reply, answer) = oneshot::channel();
        let _waiting = Waiting::begin(&self.metrics.logins_waiting);
        let job = Job::Compare { password: password.clone(), hash, reply };
        self.queue.push(Asker::of(from), job).map_err(|_full| PasswordError::Busy)?;
        answer.await.map_err(|_given_up| PasswordError::Busy)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.waiting()
    }
}

/// Counts a login as waiting until it is dropped.
struct Waiting(Gauge);

impl Waiting {
    fn begin(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Job {
    fn run(self, hashes: &Counter) {
        match self {
            Self::Hash { password, reply } => {
                hashes.inc();
                let hash = Argon2::default()
                    .hash_password(password.expose().as_bytes())
                    .map(|hash: phc::PasswordHash| PasswordHash(hash.to_string()))
                    .map_err(|error| PasswordError::Hash(error.to_string()));
                // Whoever asked may have left.
                let _ = reply.send(hash);
            }
            Self::Compare { reply, .. } if reply.is_closed() => {}
            Self::Compare { password, hash, reply } => {
                hashes.inc();
                let _ = reply.send(compare(password.expose().as_bytes(), hash.as_ref()));
            }
        }
    }
}

fn compare(password: &[u8], hash: Option<&PasswordHash>) -> bool {
    match hash.and_then(|hash| phc::PasswordHash::new(&hash.0).ok()) {
        Some(hash) => Argon2::default().verify_password(password, &hash).is_ok(),
        None => {
            let mut unused = [0; argon2::Params::DEFAULT_OUTPUT_LEN];
            if let Err(error) = Argon2::default().hash_password_into(password, NO_SALT, &mut unused) {
                tracing::debug!(%error, "the work for a name that does not exist failed");
            }
            false
        }
    }
}

/// Whoever pulls has the processor first. On Linux the priority is the thread's own.
fn yield_to_others() {
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let number = thread.as_deref().and_then(|path| path.file_name()?.to_str()?.parse().ok());
    let lowered = number
        .and_then(rustix::process::Pid::from_raw)
        .is_some_and(|thread| rustix::process::setpriority_process(Some(thread), LOWEST).is_ok());
    if !lowered {
        tracing::debug!("logins run with the priority of everything else");
    }
}
