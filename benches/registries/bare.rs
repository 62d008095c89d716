//! A bare hyper server of files: no routes, no counts, no log, no cache; what is left when everything that makes a registry
//! is taken away. It runs as a process of its own, this program started again, and reads on the thread that sends.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The first argument that makes this program such a server; the second is its directory.
pub(crate) const COMMAND: &str = "bare-server";

/// Bytes read and sent at once: as many as ours.
const FRAME: usize = 256 << 10;
/// Buffers kept for the next frames; hyper holds two at the most.
const KEPT: usize = 3;

/// Serves the files under `directory` until it is killed.
pub(crate) fn serve(directory: PathBuf) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let directory = Arc::new(directory);
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("ready http={}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let directory = directory.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&directory, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A client that breaks off is no concern of a bench.
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

fn answer(directory: &Path, request: &Request<Incoming>) -> Response<FileBody> {
    let path = directory.join(request.uri().path().trim_start_matches('/'));
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let Ok((left, file)) = opened else {
        let mut response = Response::new(FileBody::default());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    // hyper tells the length, and sends no body where a HEAD asked.
    Response::new(FileBody { file: Some(file), at: 0, left, kept: VecDeque::new() })
}

#[derive(Debug, Default)]
struct FileBody {
    file: Option<File>,
    at: u64,
    left: u64,
    kept: VecDeque<Bytes>,
}

impl FileBody {
    /// A buffer that has been sent, or a new one.
    fn buffer(&mut self, wanted: usize) -> BytesMut {
        let oldest = if self.kept.len() < KEPT { None } else { self.kept.pop_front() };
        match oldest.map(Bytes::try_into_mut) {
            Some(Ok(mut buffer)) if buffer.len() >= wanted => {
                buffer.truncate(wanted);
                buffer
            }
            _ => BytesMut::zeroed(wanted),
        }
    }

    fn read(&mut self) -> std::io::Result<Bytes> {
        let wanted = usize::try_from(self.left).unwrap_or(FRAME).min(FRAME);
        let mut buffer = self.buffer(wanted);
        if let Some(file) = &self.file {
            file.read_exact_at(&mut buffer, self.at)?;
        }
        let bytes = buffer.freeze();
        self.kept.push_back(bytes.clone());
        self.at += wanted as u64;
        self.left -= wanted as u64;
        Ok(bytes)
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(this.read().map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
