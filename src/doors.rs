//! The addresses of a node: those of its clients, with TLS or without, and those of its operators where they have their own.

use std::{sync::Arc, time::Duration};

use oci::http::{Door, Front, Limits, Server, Service, Tls};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::settings::NodeSettings;

/// How many connections operators may have open at their own addresses: Prometheus, some load balancers, and a few people.
const OPERATORS: u32 = 256;
/// How long what operators have asked may take to finish, once clients are done.
const OPERATORS_DRAIN: Duration = Duration::from_secs(1);

/// Bound addresses that nobody is served at yet.
#[derive(Debug)]
pub(crate) struct Doors {
    clients: Server,
    operators: Option<Server>,
    tls: Option<Arc<Tls>>,
}

impl Doors {
    /// Reads the certificate and takes all addresses.
    pub(crate) fn open(node: &NodeSettings) -> anyhow::Result<Self> {
        let tls = node.tls.load().map_err(anyhow::Error::msg)?.map(Arc::new);
        let apart = !node.admin.listen.is_empty();
        let door = if apart { Door::Clients } else { Door::Everything };
        let clients = Server::bind(&node.listen, node.limits.clone())?.with_tls(tls.clone()).at_door(door);
        let limits = Limits { connections: OPERATORS, ..node.limits.clone() };
        let operators = apart
            .then(|| Server::bind(&node.admin.listen, limits))
            .transpose()?
            .map(|it| it.at_door(Door::Operators));
        if tls.is_some() {
            tracing::info!(addresses = %addresses(&clients), "clients are served by HTTPS only");
        }
        Ok(Self { clients, operators, tls })
    }

    /// Registers what is counted here.
    pub(crate) fn register(&self, metrics: &mut Registry) {
        if let Some(tls) = &self.tls {
            tls.register(metrics);
        }
    }

    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// The part of the ready line that says where the node serves.
    pub(crate) fn line(&self) -> String {
        let clients = format!("http={}", addresses(&self.clients));
        match &self.operators {
            Some(operators) => format!("{clients} admin={}", addresses(operators)),
            None => clients,
        }
    }

    /// Serves until `stop`. Operators are served until clients are done, so that they see how that goes.
    pub(crate) fn serve<S: Service>(
        self,
        front: Arc<Front<S>>,
        stop: CancellationToken,
        drain: Duration,
    ) -> JoinHandle<()> {
        tokio::spawn(async move {
            let done = CancellationToken::new();
            let watched = self.tls.map(|tls| tokio::spawn(tls.watch(done.clone())));
            let operators = self
                .operators
                .map(|server| tokio::spawn(server.serve(front.clone(), done.clone(), OPERATORS_DRAIN)));
            self.clients.serve(front, stop, drain).await;
            done.cancel();
            for task in [watched, operators].into_iter().flatten() {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a task of the server failed");
                }
            }
        })
    }
}

fn addresses(server: &Server) -> String {
    server.local_addrs().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
