//! A link between two servers: a TCP relay that counts what the upstream sends and, where a rate is given, lets it
//! through no faster, all connections together. A byte departs when the link is free, so a short answer on an idle link
//! waits for nothing but the link's delay, if it has one.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Bytes moved at once over a link with a rate: a third of a millisecond at 50 MB/s.
const PIECE: usize = 16 << 10;
/// Bytes moved at once over a link without.
const GULP: usize = 1 << 20;
/// Pieces under way on a link with a delay: 50 MB/s for 300 ms.
const UNDER_WAY: usize = 1024;
/// A link is quiet when nothing passed for this long.
const QUIET: Duration = Duration::from_millis(200);

/// A relay in front of one server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    link: Arc<Link>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Link {
    upstream: SocketAddr,
    /// Bytes a second; none for as fast as it goes.
    rate: Option<f64>,
    /// One way.
    delay: Duration,
    /// When the last byte accepted will have left.
    free: Mutex<Instant>,
    carried: AtomicU64,
    closed: AtomicBool,
}

impl Relay {
    /// A relay to `upstream` that lets through `rate` bytes a second, or as many as it can, `delay` later each way.
    pub(crate) fn open(upstream: SocketAddr, rate: Option<f64>, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let link = Arc::new(Link {
            upstream,
            rate,
            delay,
            free: Mutex::new(Instant::now()),
            carried: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let shared = Arc::clone(&link);
        let accepting = thread::spawn(move || accept(&listener, &shared));
        Ok(Self { address, link, accepting: Some(accepting) })
    }

    /// Bytes that the upstream sent through this relay so far.
    pub(crate) fn carried(&self) -> u64 {
        self.link.carried.load(Ordering::Relaxed)
    }

    /// Waits until nothing passes any more: some proxies go on fetching when their client has everything.
    pub(crate) fn settle(&self) -> Result<()> {
        let begun = Instant::now();
        let (mut seen, mut since) = (self.carried(), begun);
        while since.elapsed() < QUIET {
            ensure!(begun.elapsed() < Duration::from_secs(120), "the link does not become quiet");
            sleep(Duration::from_millis(10));
            let now = self.carried();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.link.closed.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Link {
    /// Waits until `bytes` may depart.
    fn depart(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let start = {
            let mut free = self.free.lock().expect("no holder panics");
            let start = (*free).max(Instant::now());
            *free = start + Duration::from_secs_f64(bytes as f64 / rate);
            start
        };
        sleep(start.saturating_duration_since(Instant::now()));
    }
}

/// One pair of threads for each connection; they end with either side's connection.
fn accept(listener: &TcpListener, link: &Arc<Link>) {
    for client in listener.incoming() {
        if link.closed.load(Ordering::Relaxed) {
            return;
        }
        let pair = client.and_then(|client| {
            let upstream = TcpStream::connect(link.upstream)?;
            client.set_nodelay(true)?;
            upstream.set_nodelay(true)?;
            Ok((client.try_clone()?, client, upstream.try_clone()?, upstream))
        });
        let Ok((client_in, client_out, upstream_in, upstream_out)) = pair else { continue };
        let (down, up) = (Arc::clone(link), Arc::clone(link));
        thread::spawn(move || pump(upstream_in, client_out, &down, Direction::Down));
        thread::spawn(move || pump(client_in, upstream_out, &up, Direction::Up));
    }
}

/// From the upstream, metered; or to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
}

/// Moves bytes one way until the sender ends, then ends that direction; a broken connection ends both.
fn pump(mut from: TcpStream, mut to: TcpStream, link: &Link, direction: Direction) {
    let ended = if link.delay.is_zero() {
        carry(&mut from, link, direction, |piece| to.write_all(piece))
    } else {
        carry_later(&mut from, &mut to, link, direction)
    };
    let _ = to.shutdown(if ended.is_ok() { Shutdown::Write } else { Shutdown::Both });
    let _ = from.shutdown(if ended.is_ok() { Shutdown::Read } else { Shutdown::Both });
}

/// Each piece arrives the link's delay after its departure.
fn carry_later(
    from: &mut TcpStream,
    to: &mut TcpStream,
    link: &Link,
    direction: Direction,
) -> io::Result<()> {
    let (under_way, arriving) = sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    thread::scope(|scope| {
        scope.spawn(move || {
            for (due, piece) in arriving {
                sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&piece).is_err() {
                    return;
                }
            }
        });
        carry(from, link, direction, |piece| {
            under_way.send((Instant::now() + link.delay, piece.to_vec())).map_err(io::Error::other)
        })?;
        drop(under_way);
        Ok(())
    })
}

fn carry(
    from: &mut TcpStream,
    link: &Link,
    direction: Direction,
    mut deliver: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; if link.rate.is_none() { GULP } else { PIECE }];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        if direction == Direction::Down {
            link.depart(n);
            link.carried.fetch_add(n as u64, Ordering::Relaxed);
        }
        deliver(&buffer[..n])?;
    }
}
