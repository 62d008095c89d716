//! The authoritative registry: the OCI distribution protocol over a database and an object store.
//!
//! A node keeps no state of its own; any number of equal ones run over the same two, and each goes on with what another
//! began. What was acknowledged is durable, and a request that was given up by its client is still ended properly.

mod api;
mod database;
mod identity;
mod intake;
mod jobs;
mod metrics;
mod routes;
pub mod settings;
mod storage;
mod time;

use std::{path::Path, pin::Pin, sync::Arc, time::Duration};

use http::{Method, Request, Response};
use oci::{
    error::ErrorCode,
    http::{Body, Check, RequestBody, RouteLabel, Service, error_response},
};
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use crate::database::gc::Reclaimable;
use crate::{
    database::{Database, projects::Projects},
    identity::Identity,
    intake::Intake,
    jobs::Jobs,
    metrics::Metrics,
    routes::{Registry, gate::Gate},
    settings::Settings,
    storage::Storage,
};

/// Why an origin did not start.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] Reason);

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("{0}")]
    Settings(String),
    #[error(transparent)]
    Database(#[from] database::Error),
    #[error(transparent)]
    Storage(#[from] storage::StorageError),
    #[error(transparent)]
    Identity(#[from] identity::StartError),
}

/// How clients reach a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Who is asked who they are.
    pub openness: Openness,
    /// What clients speak: it is in the address of the token service that they are told.
    pub scheme: Scheme,
}

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP, at this node: a proxy before it may speak TLS, and says so.
    Http,
    /// HTTP over TLS.
    Https,
}

/// Who is asked who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Openness {
    /// Everybody.
    Asking,
    /// Nobody (`--no-auth`): whoever reaches the node may do everything, and a push makes its project.
    Everybody,
}

/// The database failed; the text says how.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Failure(database::Error);

/// A check that takes longer than this has failed.
const CHECK_PATIENCE: Duration = Duration::from_secs(2);
/// What still runs this long after the server has drained is left: a killed process is no worse.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

async fn state<E: std::error::Error>(check: impl Future<Output = Result<(), E>>) -> Result<(), String> {
    match tokio::time::timeout(CHECK_PATIENCE, check).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_elapsed) => Err(format!("no answer within {CHECK_PATIENCE:?}")),
    }
}

/// A running origin.
#[derive(Debug)]
pub struct Origin {
    registry: Arc<Registry>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A future whose code is compiled in this crate: that of an `async fn` is compiled where it is awaited, which is in the
/// binary, all of it after each change.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Origin {
    /// Opens the database and the storage, and starts the background jobs. Needs nothing else, and is done in well under
    /// a second after a crash too.
    ///
    /// # Errors
    /// The settings are wrong, the database does not answer, or the directory cannot be made.
    #[inline(never)]
    pub fn start<'a>(
        settings: Settings,
        data_dir: &'a Path,
        node_name: &'a str,
        reach: Reach,
        metrics_registry: &'a mut MetricsRegistry,
    ) -> Boxed<'a, Result<Arc<Self>, StartError>> {
        Box::pin(Self::open(settings, data_dir, node_name, reach, metrics_registry))
    }

    async fn open(
        settings: Settings,
        data_dir: &Path,
        node_name: &str,
        reach: Reach,
        metrics_registry: &mut MetricsRegistry,
    ) -> Result<Arc<Self>, StartError> {
        let mistakes = settings.validate();
        if !mistakes.is_empty() {
            return Err(Reason::Settings(mistakes.join("; ")).into());
        }
        let metrics = Metrics::register(metrics_registry);
        let storage = Storage::open(&settings.storage, data_dir).map_err(Reason::from)?;
        let database = Database::open(&settings.database, data_dir).await.map_err(Reason::from)?;
        let database = database.with_projects(match reach.openness {
            Openness::Everybody => Projects::MadeByPush,
            Openness::Asking => Projects::MadeByAdmin,
        });
        let identity =
            Identity::start(database.clone(), settings.auth, reach, data_dir, metrics.clone()).await;
        let identity = identity.map_err(Reason::from)?;
        let jobs = Arc::new(Jobs::new(
            database.clone(),
            storage.clone(),
            metrics.clone(),
            settings.gc,
            &settings.upload,
            node_name.to_owned(),
        ));
        let intake = Intake::new(
            database.clone(),
            storage.clone(),
            metrics.clone(),
            &settings.registry,
            &settings.upload,
            jobs.notify(),
        );
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn({
            let (jobs, stop) = (jobs.clone(), stop.clone());
            async move { jobs.run(stop).await }
        });
        tasks.spawn({
            let (database, stop) = (database.clone(), stop.clone());
            async move { database.follow_primary(stop).await }
        });
        tasks.spawn({
            let (identity, stop) = (identity.clone(), stop.clone());
            async move { identity.maintain(stop).await }
        });
        let gate = Gate { openness: reach.openness, identity };
        let node_name = node_name.to_owned();
        let registry = Registry {
            database,
            storage,
            intake,
            jobs,
            metrics,
            settings: settings.registry,
            gate,
            node_name,
        };
        Ok(Arc::new(Self { registry: Arc::new(registry), tasks, stop }))
    }

    /// Answers any request: the registry under `/v2/`, the token service and its keys, the administration
    /// API.
    ///
    /// # Cancel safety
    /// A request that changes something runs to its end when the future is dropped.
    pub async fn handle(&self, request: Request<RequestBody>) -> Response<Body> {
        let gate = &self.registry.gate;
        let asking = gate.openness == Openness::Asking;
        match request.uri().path() {
            "/token" if asking => {
                return labelled(routes::token::answer(&gate.identity, request).await, "token");
            }
            "/.well-known/jwks.json" if asking && request.method() == Method::GET => {
                return labelled(routes::token::keys(&gate.identity), "jwks");
            }
            _ => {}
        }
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer(&self.registry, request).await;
        }
        let registry = self.registry.clone();
        match self.tasks.spawn(async move { answer(&registry, request).await }).await {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(error = %error, "a request failed inside");
                error_response(&ErrorCode::Internal.error("the registry failed; its log says why"))
            }
        }
    }

    #[inline(never)]
    fn answered(&self, request: Request<RequestBody>) -> Boxed<'_, Response<Body>> {
        Box::pin(self.handle(request))
    }

    /// What `/readyz` shows: the database and the storage, asked now.
    pub async fn checks(&self) -> Vec<Check> {
        let (database, storage) =
            tokio::join!(state(self.registry.database.check()), state(self.registry.storage.check()));
        vec![
            Check { name: "database", state: database, required: true },
            Check { name: "storage", state: storage, required: true },
        ]
    }

    /// What garbage collection would free now, by repository; nothing is changed.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reclaimable(&self) -> Result<Vec<Reclaimable>, Failure> {
        self.registry.jobs.reclaimable().await.map_err(Failure)
    }

    /// Ends the background jobs, lets requests that change something come to their end, and closes the database. To be
    /// called when the server has drained.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(SHUTDOWN_PATIENCE, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                tasks = self.tasks.len(),
                "work was left unfinished; it is taken up or dropped later"
            );
        }
        self.registry.database.close().await;
    }
}

/// The administration API, or the registry itself.
async fn answer(registry: &Registry, request: Request<RequestBody>) -> Response<Body> {
    if api::serves(request.uri().path()) {
        return labelled(api::answer(registry, request).await, "api");
    }
    registry.answer(request).await
}

/// Names the route for metrics and logs.
fn labelled(mut response: Response<Body>, label: &'static str) -> Response<Body> {
    response.extensions_mut().insert(RouteLabel(label));
    response
}

impl Service for Origin {
    fn call(&self, request: Request<RequestBody>) -> impl Future<Output = Response<Body>> + Send {
        self.answered(request)
    }

    async fn checks(&self) -> Vec<Check> {
        Self::checks(self).await
    }
}
