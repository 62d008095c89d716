//! A proxy before a node, as many stand before one: it says in each request that it is there.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Before the node at `behind`.
    pub(super) fn before(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let over = Arc::new(AtomicBool::new(false));
        let ending = over.clone();
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ending.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::spawn(move || pass_on(&stream, behind));
            }
        });
        Self { address, over, accepting: Some(accepting) }
    }
}

/// One request, and its answer; then the connection is closed.
fn pass_on(mut client: &TcpStream, behind: SocketAddr) -> Option<()> {
    let mut node = TcpStream::connect(behind).ok()?;
    for line in BufReader::new(client).lines().map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        write!(node, "{line}\r\n").ok()?;
    }
    write!(node, "Via: 1.1 proxy\r\nConnection: close\r\n\r\n").ok()?;
    std::io::copy(&mut node, &mut client).ok().map(drop)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
