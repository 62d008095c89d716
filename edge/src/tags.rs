//! Tags: which manifest each was when the upstream was last asked, and asking again.
//!
//! A request is answered by a confirmation that began after the request came, never by an older one; all requests that
//! wait share one. So a tag under load costs the upstream one request at a time, and no answer is older than its request.
//! A confirmation runs on when nobody waits any more, so a slow upstream still updates the tag.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use oci::{
    client::{Failure, FetchError},
    name::{Reference, Tag},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    freshness::{Plan, Situation, plan},
    manifests::Manifests,
    metadata::{Metadata, Place, TagRecord},
    unavailable::Unavailable,
    upstream::{Upstream, refused},
};

/// Tags whose state is held in memory.
const MEMORY_TAGS: u64 = 100_000;
/// A confirmation that changes nothing is written down only if the last one written is this much older.
const WRITE_INTERVAL_MS: i64 = 10_000;

/// How a tag was resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The upstream confirmed it for this request.
    Confirmed,
    /// The upstream confirmed it, and it is another manifest than before.
    Changed,
    /// It was not known before.
    First,
    /// Trusted for as long as the settings say.
    Trusted,
    /// The upstream could not be asked.
    Stale,
}

/// A resolved tag.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The manifest, and when it was confirmed.
    pub record: TagRecord,
    /// How sure that is.
    pub standing: Standing,
}

impl Resolved {
    /// How long ago it was confirmed.
    pub(crate) fn age(&self) -> Duration {
        age(&self.record)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Tags {
    slots: moka::sync::Cache<(Place, Tag), Arc<Slot>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    metadata: Metadata,
    manifests: Manifests,
    budget: Duration,
    first_byte: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One tag.
#[derive(Debug)]
struct Slot {
    place: Place,
    tag: Tag,
    state: Mutex<State>,
    loaded: tokio::sync::OnceCell<()>,
    finished: watch::Sender<Finished>,
}

#[derive(Debug, Default)]
struct State {
    record: Option<TagRecord>,
    /// `confirmed` of what the metadata holds.
    written: i64,
    running: bool,
    /// The number of the confirmation that runs, or ran last.
    begun: u64,
    /// The number of the last confirmation that somebody asked for.
    wanted: u64,
}

#[derive(Clone, Debug, Default)]
struct Finished {
    number: u64,
    outcome: Option<Outcome>,
}

#[derive(Clone, Debug)]
enum Outcome {
    Confirmed(Standing),
    Failed(Arc<Unavailable>),
}

impl Tags {
    /// Tags kept in `metadata`; confirmations run as tasks of `tasks`, until `stop`.
    pub(crate) fn new(
        metadata: Metadata,
        manifests: Manifests,
        budget: Duration,
        first_byte: Duration,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared { metadata, manifests, budget, first_byte, tasks, stop });
        Self { slots: moka::sync::Cache::new(MEMORY_TAGS), shared }
    }

    /// Which manifest `tag` is.
    ///
    /// # Errors
    /// Nothing is cached and the upstream did not tell; or the upstream said that there is no such tag.
    pub(crate) async fn resolve(
        &self,
        place: &Place,
        upstream: &Arc<Upstream>,
        tag: &Tag,
    ) -> Result<Resolved, Arc<Unavailable>> {
        let key = (place.clone(), tag.clone());
        let slot = self.slots.get_with(key, || Arc::new(Slot::new(place.clone(), tag.clone())));
        slot.load(&self.shared.metadata).await?;
        let record = slot.state().record.clone();
        let situation = Situation {
            policy: upstream.freshness,
            age: record.as_ref().map(age),
            gate: upstream.gate(),
            budget: self.shared.budget,
            first_byte: self.shared.first_byte,
        };
        match (plan(situation), record) {
            (Plan::Trust, Some(record)) => Ok(Resolved { record, standing: Standing::Trusted }),
            (Plan::TrustAndConfirm, Some(record)) => {
                slot.ask(&self.shared, upstream);
                Ok(Resolved { record, standing: Standing::Trusted })
            }
            (Plan::ServeStale, Some(record)) => Ok(Resolved { record, standing: Standing::Stale }),
            (Plan::ServeStaleAndConfirm, Some(record)) => {
                slot.ask(&self.shared, upstream);
                Ok(Resolved { record, standing: Standing::Stale })
            }
            (Plan::Confirm { patience }, _) => self.confirm(&slot, upstream, patience).await,
            (Plan::Refuse(refusal), _) => Err(Arc::new(Unavailable::Upstream(refused(refusal)))),
            // A plan that serves is made only where something is cached.
            (Plan::Trust | Plan::TrustAndConfirm | Plan::ServeStale | Plan::ServeStaleAndConfirm, None) => {
                self.confirm(&slot, upstream, self.shared.first_byte).await
            }
        }
    }

    /// Forgets what is in memory of a tag that the metadata has forgotten.
    pub(crate) fn forget(&self, place: &Place, tag: &Tag) {
        self.slots.invalidate(&(place.clone(), tag.clone()));
    }

    async fn confirm(
        &self,
        slot: &Arc<Slot>,
        upstream: &Arc<Upstream>,
        patience: Duration,
    ) -> Result<Resolved, Arc<Unavailable>> {
        let number = slot.ask(&self.shared, upstream);
        let mut finished = slot.finished.subscribe();
        let waited =
            tokio::time::timeout(patience, finished.wait_for(|finished| finished.number >= number)).await;
        let outcome = match waited {
            Ok(Ok(finished)) => finished.outcome.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        let record = slot.state().record.clone();
        match (outcome, record) {
            (Some(Outcome::Confirmed(standing)), Some(record)) => Ok(Resolved { record, standing }),
            (Some(Outcome::Failed(why)), _) if why.is_said_no() => Err(why),
            (_, Some(record)) => Ok(Resolved { record, standing: Standing::Stale }),
            (Some(Outcome::Failed(why)), None) => Err(why),
            (Some(Outcome::Confirmed(_)) | None, None) => {
                let silence = oci::client::Silence::NoAnswer(patience);
                Err(Arc::new(Unavailable::Upstream(silence.into())))
            }
        }
    }
}

impl Slot {
    fn new(place: Place, tag: Tag) -> Self {
        Self {
            place,
            tag,
            state: Mutex::default(),
            loaded: tokio::sync::OnceCell::new(),
            finished: watch::Sender::new(Finished::default()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn load(&self, metadata: &Metadata) -> Result<(), Arc<Unavailable>> {
        let load = async {
            let record = metadata.tag(&self.place, &self.tag).await?;
            let mut state = self.state();
            state.written = record.as_ref().map_or(0, |record| record.confirmed);
            state.record = record;
            Ok::<_, sqlx::Error>(())
        };
        match self.loaded.get_or_try_init(|| load).await {
            Ok(()) => Ok(()),
            Err(error) => Err(Arc::new(error.into())),
        }
    }

    /// Asks for a confirmation that begins from now on; its number.
    fn ask(self: &Arc<Self>, shared: &Arc<Shared>, upstream: &Arc<Upstream>) -> u64 {
        let mut state = self.state();
        state.wanted = state.begun + 1;
        let number = state.wanted;
        if !state.running {
            state.running = true;
            drop(state);
            let (slot, shared, upstream) = (self.clone(), shared.clone(), upstream.clone());
            let tasks = shared.tasks.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = slot.run(&shared, &upstream) => {}
                    () = shared.stop.cancelled() => {}
                }
            });
        }
        number
    }

    async fn run(self: Arc<Self>, shared: &Shared, upstream: &Upstream) {
        // Whatever happens in a confirmation, the next request may begin one.
        let mut idle = Idle { slot: &self, armed: true };
        loop {
            let number = {
                let mut state = self.state();
                if state.wanted <= state.begun {
                    // Under the lock, so that nobody asks between this look and the end.
                    state.running = false;
                    idle.armed = false;
                    return;
                }
                state.begun += 1;
                state.begun
            };
            let outcome = match self.confirm(shared, upstream).await {
                Ok(standing) => Outcome::Confirmed(standing),
                Err(why) => Outcome::Failed(Arc::new(why)),
            };
            self.finished.send_replace(Finished { number, outcome: Some(outcome) });
        }
    }

    /// Asks the upstream, and keeps what it says.
    async fn confirm(&self, shared: &Shared, upstream: &Upstream) -> Result<Standing, Unavailable> {
        let reference = Reference::Tag(self.tag.clone());
        // The tag may move between the answer and the end of this: it is as old as the question.
        let asked_at = now_ms();
        let asked = upstream.head_manifest(&self.place.repository, &reference, shared.first_byte).await;
        let digest = match asked {
            Ok(Some(head)) => {
                if shared.manifests.cached(&self.place, &head.digest).await?.is_some() {
                    head.digest
                } else {
                    let reference = Reference::Digest(head.digest);
                    // It has just named it, whatever it said of it before.
                    upstream.forget_no(&self.place.repository, &reference);
                    let fetched =
                        shared.manifests.fetch(&self.place, upstream, &reference, shared.first_byte).await;
                    // A *no* here is about the digest that the registry itself just named, and tells nothing of the tag:
                    // a replica that lags behind, for example.
                    let contradicted = |why: Unavailable| match why.is_said_no() {
                        true => {
                            upstream.forget_no(&self.place.repository, &reference);
                            FetchError::from(Failure::Unreadable("it named a manifest that it does not have"))
                                .into()
                        }
                        false => why,
                    };
                    fetched.map_err(contradicted)?.digest
                }
            }
            Ok(None) => {
                shared.manifests.fetch(&self.place, upstream, &reference, shared.first_byte).await?.digest
            }
            Err(error) => {
                let error = Unavailable::from(error);
                if error.is_said_no() {
                    self.state().record = None;
                    shared.metadata.forget_tag(&self.place, &self.tag).await?;
                }
                return Err(error);
            }
        };
        let record = TagRecord { digest, confirmed: asked_at };
        let (standing, write) = {
            let mut state = self.state();
            let standing = match &state.record {
                None => Standing::First,
                Some(before) if before.digest == record.digest => Standing::Confirmed,
                Some(_) => Standing::Changed,
            };
            let write =
                standing != Standing::Confirmed || record.confirmed - state.written >= WRITE_INTERVAL_MS;
            if write {
                state.written = record.confirmed;
            }
            state.record = Some(record.clone());
            (standing, write)
        };
        if write {
            shared.metadata.keep_tag(&self.place, &self.tag, &record).await;
        }
        Ok(standing)
    }
}

/// Lets the next confirmation begin if this one ends in a panic or with the runtime.
struct Idle<'a> {
    slot: &'a Slot,
    armed: bool,
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.slot.state().running = false;
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn age(record: &TagRecord) -> Duration {
    Duration::from_millis(u64::try_from(now_ms() - record.confirmed).unwrap_or(0))
}
