//! A server of HTTP/1.1: listens, bounds what clients can hold, and drains when it is told to stop.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{Connection, Phase},
    front::{Front, Service},
};
use crate::settings::Span;

/// How much a client may hold of this node, and for how long.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A client that has not finished sending the head of its request after this time is dropped.
    pub header_timeout: Span,
    /// A client that sends nothing between two requests, pauses inside a body, or takes no byte of its answer for this
    /// long, is dropped.
    pub idle_timeout: Span,
    /// How many client connections may be open at once. One more is answered 503 and closed.
    pub connections: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Span(Duration::from_secs(15)),
            idle_timeout: Span(Duration::from_secs(60)),
            connections: 10_000,
        }
    }
}

/// Connections that the kernel completes before we accept them.
const BACKLOG: u32 = 4096;
/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// After `accept` failed (no file descriptors left, for example), it is tried again after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Both ends of a client's connection; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The client's address.
    pub remote: SocketAddr,
    /// The address of ours that it reached.
    pub local: SocketAddr,
}

/// A bound server that does not serve yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    limits: Limits,
}

impl Server {
    /// Listens on every address of `listen`; port 0 lets the system choose.
    ///
    /// # Errors
    /// An address cannot be bound; none of them is then.
    pub fn bind(listen: &[SocketAddr], limits: Limits) -> Result<Self, BindError> {
        let bind = |address: &SocketAddr| {
            let listener = || {
                let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                socket.listen(BACKLOG)
            };
            listener().map_err(|error| BindError { address: *address, error })
        };
        Ok(Self { listeners: listen.iter().map(bind).collect::<Result<_, _>>()?, limits })
    }

    /// The addresses that it listens on.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves until `stop`, then lets what runs finish within `drain` and ends the rest.
    pub async fn serve<S: Service>(self, front: Arc<Front<S>>, stop: CancellationToken, drain: Duration) {
        let tasks = TaskTracker::new();
        let end = CancellationToken::new();
        let slots = Arc::new(Semaphore::new(self.limits.connections as usize));
        let mut acceptors = tokio::task::JoinSet::new();
        for listener in self.listeners {
            let serving = Serving {
                front: front.clone(),
                limits: self.limits.clone(),
                stop: stop.clone(),
                end: end.clone(),
                slots: slots.clone(),
                tasks: tasks.clone(),
            };
            acceptors.spawn(serving.accept(listener));
        }
        acceptors.join_all().await;
        tasks.close();
        let began = Instant::now();
        if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), waited = ?began.elapsed(), "ending connections that did not finish in time");
        }
        end.cancel();
        tasks.wait().await;
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

struct Serving<S> {
    front: Arc<Front<S>>,
    limits: Limits,
    stop: CancellationToken,
    end: CancellationToken,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl<S: Service> Serving<S> {
    /// Accepts until told to stop; the listener closes when it returns.
    async fn accept(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => self.admit(stream, remote),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, remote: SocketAddr) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            refuse(&stream);
            return;
        };
        let local = match stream.local_addr().and_then(|local| stream.set_nodelay(true).map(|()| local)) {
            Ok(local) => local,
            Err(error) => {
                tracing::debug!(%error, client = %remote, "a connection broke while it was accepted");
                return;
            }
        };
        let client = Client { remote, local };
        let connection = self.connection(stream, client);
        let end = self.end.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = connection => {}
                () = end.cancelled() => {}
            }
            drop(slot);
        });
    }

    fn connection(&self, stream: TcpStream, client: Client) -> impl Future<Output = ()> + Send + use<S> {
        let phase = Phase::new();
        let io = TokioIo::new(Connection::new(stream, phase.clone(), self.limits.clone()));
        let (front, idle) = (self.front.clone(), self.limits.idle_timeout.0);
        let service = service_fn(move |request: Request<Incoming>| {
            phase.request_begins();
            front.clone().answer(request, client, idle, phase.clone())
        });
        let mut builder = http1::Builder::new();
        // The deadlines are the socket's (see `connection`): hyper's own counts idle time as part of a head. It is set
        // all the same, and later, because hyper asks the socket again after an answer only if it has a deadline.
        let never_first = self.limits.header_timeout.0.saturating_add(idle).saturating_mul(2);
        builder.timer(TokioTimer::new()).header_read_timeout(never_first).max_header_size(MAX_HEAD);
        let served = builder.serve_connection(io, service);
        let stop = self.stop.clone();
        async move {
            let mut served = std::pin::pin!(served);
            let result = tokio::select! {
                result = served.as_mut() => result,
                () = stop.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(client = %client.remote, error = &error as &dyn std::error::Error, "a connection ended early");
            }
        }
    }
}

/// Tells a client, as far as the socket takes it at once, that there are too many.
fn refuse(stream: &TcpStream) {
    const PAGE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
        Content-Type: application/json\r\nContent-Length: 90\r\n\r\n\
        {\"errors\":[{\"code\":\"UNAVAILABLE\",\"message\":\"this node has no connections left for now\"}]}\n";
    if stream.try_write(PAGE).is_err() {
        tracing::debug!("a connection over the limit was closed without a word");
    }
}

#[cfg(test)]
mod tests;
