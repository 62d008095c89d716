//! A server that says the same to everybody, or nothing, and remembers what it heard.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Close,
    /// Until the other side leaves.
    Hang,
}

impl Listener {
    /// Answers every request with this.
    pub(super) fn answering(status: &str, media_type: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("{status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n");
        Self::start(format!("{head}Connection: close\r\n\r\n{body}").into_bytes(), After::Close)
    }

    /// Takes connections and says nothing.
    pub(super) fn silent() -> Self {
        Self::start(Vec::new(), After::Hang)
    }

    /// Says that `announced` bytes come, gives these, and keeps the connection.
    pub(super) fn halting(bytes: &[u8], announced: u64) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\n\r\n");
        Self::start([head.as_bytes(), bytes].concat(), After::Hang)
    }

    fn start(answer: Vec<u8>, after: After) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (heard, over) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let (hearing, ending) = (heard.clone(), over.clone());
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ending.load(Ordering::SeqCst) {
                    return;
                }
                let (hearing, answer) = (Arc::clone(&hearing), answer.clone());
                std::thread::spawn(move || converse(stream, &hearing, &answer, after));
            }
        });
        Self { address, heard, over, accepting: Some(accepting) }
    }

    /// The heads of all requests so far.
    pub(super) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("nobody panics").clone()
    }
}

fn converse(mut stream: TcpStream, heard: &Mutex<Vec<String>>, answer: &[u8], after: After) {
    let mut head = String::new();
    for line in BufReader::new(&stream).lines().map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        head.push_str(&line);
        head.push('\n');
    }
    heard.lock().expect("nobody panics").push(head);
    // The other side may leave at any time.
    let _ = stream.write_all(answer);
    if after == After::Hang {
        let _ = stream.read(&mut [0]);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
