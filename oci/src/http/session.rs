//! One client's connection from its first byte to its last: TLS or not, HTTP/1.1 or HTTP/2.
//!
//! Over TLS the protocol is what ALPN has agreed on, without TLS what the client begins to speak (HTTP/2 by prior knowledge).
//! What a client may hold of this node is bounded here for both; the bounds of HTTP/2 are hyper's own where no constant
//! says otherwise: 20 streams that were reset before they were looked at, 1,024 that we had to reset, and a dynamic
//! table of 4 KiB.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, task::Poll};

use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{Connection, Phase},
    door::Door,
    file::FRAME_BYTES,
    front::{Call, Front, Service},
    gather::Gather,
    opening::Opening,
    pages::{Pages, closing_page},
    server::Limits,
    streams::{Paced, Streams},
    tls::Tls,
    transport::Transport,
};

/// The largest head of a request, in bytes; over HTTP/2 as its header list is counted (RFC 9113, section 6.5.2).
const MAX_HEAD: u16 = u16::MAX;
/// Requests that may run on one connection of HTTP/2 at once: what RFC 9113 (section 6.5.2) asks for at the least. Each may
/// hold a frame of a file, so these are 25 MiB for a client that opens no window.
const MAX_STREAMS: u32 = 100;
/// What a client may send of a body before it was read, in bytes: of each stream, and of all of them together.
const WINDOW: u32 = 1 << 20;
/// Plain text that one connection gives to TLS before its records have gone: a frame of a file, its head and some room, so
/// that the records of a frame go to the socket in one system call.
const TLS_BUFFER: usize = FRAME_BYTES + 16 * 1024;

/// Both ends of a client's connection; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The client's address.
    pub remote: SocketAddr,
    /// The address of ours that it reached.
    pub local: SocketAddr,
}

/// What all connections of a server share.
pub(super) struct Serving<S> {
    pub(super) front: Arc<Front<S>>,
    pub(super) limits: Limits,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) door: Door,
    /// No new requests.
    pub(super) stop: CancellationToken,
    /// No connections any more.
    pub(super) end: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl<S: Service> Serving<S> {
    /// Serves one client until it leaves, or breaks a bound, or the node stops.
    pub(super) async fn converse(&self, stream: TcpStream, client: Client) {
        let phase = Phase::new();
        let connection = Connection::new(stream, phase.clone(), self.limits.clone());
        let opened = tokio::select! {
            // A request that is there already is answered.
            biased;
            opened = self.open(connection, client) => opened,
            () = self.stop.cancelled() => return,
        };
        let ended = match opened {
            Some(Opened { transport, speaks: Speaks::Http1 }) => self.http1(*transport, phase, client).await,
            Some(Opened { transport, speaks: Speaks::Http2 }) => self.http2(*transport, phase, client).await,
            None => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(client = %client.remote, error = &error as &dyn std::error::Error, "a connection ended early");
        }
    }

    /// Finds out what to speak; `None` where nothing more is to be said.
    async fn open(&self, mut connection: Connection<TcpStream>, client: Client) -> Option<Opened> {
        let opened = match (connection.opening().await, &self.tls) {
            (Ok(None), _) => return None,
            (Ok(Some(Opening::Tls)), Some(tls)) => shake_hands(tls, connection).await,
            (Ok(Some(Opening::Http1 | Opening::Http2)), Some(tls)) => {
                tls.handshake_failed();
                say_https(connection).await;
                return None;
            }
            (Ok(Some(Opening::Http2)), None) => Ok(Opened::plain(connection, Speaks::Http2)),
            (Ok(Some(Opening::Http1 | Opening::Tls)), None) => Ok(Opened::plain(connection, Speaks::Http1)),
            (Err(error), tls) => {
                if let Some(tls) = tls {
                    tls.handshake_failed();
                }
                Err(error)
            }
        };
        match opened {
            Ok(opened) => Some(opened),
            Err(error) => {
                tracing::debug!(client = %client.remote, %error, "a connection ended before its first request");
                None
            }
        }
    }

    async fn http1(&self, transport: Transport, phase: Phase, client: Client) -> Result<(), Ended> {
        let io = TokioIo::new(Pages::new(transport, phase.clone()));
        let (front, idle, door) = (self.front.clone(), self.limits.idle_timeout.0, self.door);
        let service = service_fn(move |request: Request<Incoming>| {
            front.clone().answer(request, Call { client, idle, door, busy: phase.request_begins() })
        });
        let mut builder = http1::Builder::new();
        // The deadlines are the socket's (see `connection`): hyper's own counts idle time as part of a head. It is set
        // all the same, and later, because hyper asks the socket again after an answer only if it has a deadline.
        let never_first = self.limits.header_timeout.0.saturating_add(idle).saturating_mul(2);
        builder.timer(TokioTimer::new()).header_read_timeout(never_first).max_header_size(MAX_HEAD.into());
        // One frame waits while another one is read, and no third.
        builder.max_buf_size(FRAME_BYTES);
        let mut served = pin!(builder.serve_connection(io, service));
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = self.stop.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        ended.map_err(Ended::from)
    }

    async fn http2(&self, transport: Transport, phase: Phase, client: Client) -> Result<(), Ended> {
        phase.is_shared();
        let (front, idle, door) = (self.front.clone(), self.limits.idle_timeout.0, self.door);
        let service = service_fn(move |request: Request<Incoming>| {
            let phase = phase.clone();
            let answer =
                front.clone().answer(request, Call { client, idle, door, busy: phase.request_begins() });
            async move { answer.await.map(|response| response.map(|body| Paced::new(body, phase))) }
        });
        let streams = Streams { idle, tasks: self.tasks.clone(), end: self.end.clone() };
        let mut builder = http2::Builder::new(streams);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD.into())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(FRAME_BYTES);
        let gather = Gather::new(transport);
        let mut served = pin!(builder.serve_connection(TokioIo::new(gather.clone()), service));
        let mut stopping = pin!(self.stop.cancelled());
        let mut told = false;
        std::future::poll_fn(|cx| {
            if !told && stopping.as_mut().poll(cx).is_ready() {
                told = true;
                served.as_mut().graceful_shutdown();
            }
            if let Poll::Ready(ended) = served.as_mut().poll(cx) {
                return Poll::Ready(ended.map_err(Ended::from));
            }
            match gather.poll_out(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

/// Why a connection ended before its end.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// A connection of which it is known what is spoken on it.
struct Opened {
    transport: Box<Transport>,
    speaks: Speaks,
}

#[derive(Clone, Copy)]
enum Speaks {
    Http1,
    Http2,
}

impl Opened {
    fn plain(connection: Connection<TcpStream>, speaks: Speaks) -> Self {
        Self { transport: Box::new(Transport::Plain(Box::new(connection))), speaks }
    }
}

/// TLS's handshake. Its deadline is the connection's for a head.
async fn shake_hands(tls: &Tls, connection: Connection<TcpStream>) -> io::Result<Opened> {
    let acceptor = TlsAcceptor::from(tls.config());
    let accepted =
        acceptor.accept_with(connection, |session| session.set_buffer_limit(Some(TLS_BUFFER))).await;
    let stream = accepted.inspect_err(|_| tls.handshake_failed())?;
    let speaks = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Speaks::Http2,
        Some(_) | None => Speaks::Http1,
    };
    Ok(Opened { transport: Box::new(Transport::Tls(Box::new(stream))), speaks })
}

/// Tells a client that came without TLS what it has to do, in what it speaks.
async fn say_https(mut connection: Connection<TcpStream>) {
    let page =
        closing_page("HTTP/1.1 400 Bad Request", "this port speaks HTTPS: begin the address with https://");
    let said = async {
        connection.write_all(&page).await?;
        connection.shutdown().await
    };
    if let Err(error) = said.await {
        tracing::debug!(%error, "a client that came without TLS could not be told");
    }
}

#[cfg(test)]
mod tests;
