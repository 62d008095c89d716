//! A server: listens, bounds how many clients there are, and drains when it is told to stop. What happens on a connection is
//! in `session`.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    door::Door,
    front::{Front, Service},
    session::{Client, Serving},
    tls::Tls,
};
use crate::settings::Span;

/// How much a client may hold of this node, and for how long.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A client that has not finished sending the head of its request after this time is dropped. A TLS handshake before
    /// it counts.
    pub header_timeout: Span,
    /// A client that sends nothing between two requests, pauses inside a body, or takes no byte of its answer for this
    /// long, is dropped. A stream of HTTP/2 whose client does not take 16 KiB of its answer in this time is reset.
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
/// After `accept` failed (no file descriptors left, for example), it is tried again after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound server that does not serve yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    limits: Limits,
    tls: Option<Arc<Tls>>,
    door: Door,
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
        let listeners = listen.iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Self { listeners, limits, tls: None, door: Door::Everything })
    }

    /// Speaks TLS, where there is a certificate.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
    }

    /// Answers only what is to be had at `door`.
    #[must_use]
    pub fn at_door(self, door: Door) -> Self {
        Self { door, ..self }
    }

    /// The addresses that it listens on.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves until `stop`, then lets what runs finish within `drain` and ends the rest.
    pub async fn serve<S: Service>(self, front: Arc<Front<S>>, stop: CancellationToken, drain: Duration) {
        let tasks = TaskTracker::new();
        let end = CancellationToken::new();
        let acceptor = Acceptor {
            slots: Arc::new(Semaphore::new(self.limits.connections as usize)),
            serving: Arc::new(Serving {
                front,
                limits: self.limits,
                tls: self.tls,
                door: self.door,
                stop,
                end: end.clone(),
                tasks: tasks.clone(),
            }),
        };
        let mut acceptors = tokio::task::JoinSet::new();
        for listener in self.listeners {
            acceptors.spawn(acceptor.clone().accept(listener));
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

struct Acceptor<S> {
    slots: Arc<Semaphore>,
    serving: Arc<Serving<S>>,
}

impl<S> Clone for Acceptor<S> {
    fn clone(&self) -> Self {
        Self { slots: self.slots.clone(), serving: self.serving.clone() }
    }
}

impl<S: Service> Acceptor<S> {
    /// Accepts until told to stop; the listener closes when it returns.
    async fn accept(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.serving.stop.cancelled() => return,
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
            // A client that waits for TLS could not read it.
            if self.serving.tls.is_none() {
                refuse(&stream);
            }
            return;
        };
        let local = match stream.local_addr().and_then(|local| stream.set_nodelay(true).map(|()| local)) {
            Ok(local) => local,
            Err(error) => {
                tracing::debug!(%error, client = %remote, "a connection broke while it was accepted");
                return;
            }
        };
        let serving = self.serving.clone();
        self.serving.tasks.spawn(async move {
            tokio::select! {
                () = serving.converse(stream, Client { remote, local }) => {}
                () = serving.end.cancelled() => {}
            }
            drop(slot);
        });
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
