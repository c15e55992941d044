//! Carries TCP connections on the container's loopback to a unix socket outside.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The connections that carry OTLP, counted.
#[derive(Clone, Default)]
pub(super) struct Relay {
    /// Whether a connection could not be carried.
    lost: Arc<AtomicBool>,
    open: Arc<(Mutex<usize>, Condvar)>,
}

impl Relay {
    /// Listens on the OTLP ports; gives those that were taken already.
    pub(super) fn listen(&self, socket: &Path) -> Vec<u16> {
        let mut refused = Vec::new();
        for port in super::OTLP_PORTS {
            match TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => self.accept(listener, socket.to_owned()),
                Err(_) => refused.push(port),
            }
            // Not every container has IPv6; where it does, `localhost` may mean this one.
            if let Ok(listener) = TcpListener::bind(("::1", port)) {
                self.accept(listener, socket.to_owned());
            }
        }
        refused
    }

    fn accept(&self, listener: TcpListener, socket: PathBuf) {
        let relay = self.clone();
        thread::spawn(move || {
            for inside in listener.incoming().flatten() {
                let Ok(outside) = UnixStream::connect(&socket) else { continue };
                relay.count(1);
                let carrier = relay.clone();
                let carried = super::on_thread(move || {
                    if !carry(inside, outside) {
                        carrier.lost.store(true, Ordering::Relaxed);
                    }
                    carrier.count(-1);
                });
                if !carried {
                    relay.lost.store(true, Ordering::Relaxed);
                    relay.count(-1);
                }
            }
        });
    }

    fn count(&self, change: isize) {
        let mut open = self.open.0.lock().expect("no holder panics");
        *open = open.saturating_add_signed(change);
        self.open.1.notify_all();
    }

    /// Waits until no connection is open, at most `patience`; says whether that came true and all
    /// were carried.
    pub(super) fn drain(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut open = self.open.0.lock().expect("no holder panics");
        while *open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            open = self.open.1.wait_timeout(open, left).expect("no holder panics").0;
        }
        !self.lost.load(Ordering::Relaxed)
    }
}

/// Carries connections to an address of the loopback to a socket outside, each after the number of
/// its target; says whether the address was free.
pub(super) fn offer(at: Ipv4Addr, port: u16, socket: &Path, target: u32) -> bool {
    let Ok(listener) = TcpListener::bind((at, port)) else { return false };
    let socket = socket.to_owned();
    thread::spawn(move || {
        for inside in listener.incoming().flatten() {
            let Ok(mut outside) = UnixStream::connect(&socket) else { continue };
            if outside.write_all(&target.to_le_bytes()).is_ok() {
                super::on_thread(move || {
                    carry(inside, outside);
                });
            }
        }
    });
    true
}

/// Carries a connection of the host's, which it knows by a number, to a port of the loopback.
pub(super) fn dial(socket: &Path, port: u16, number: u32) {
    let Ok(mut outside) = UnixStream::connect(socket) else { return };
    // Without anybody at the port, the host's side ends at once.
    if outside.write_all(&number.to_le_bytes()).is_ok()
        && let Ok(inside) = TcpStream::connect(("127.0.0.1", port))
    {
        carry(inside, outside);
    }
}

/// Copies both ways until both sides have ended; false when that cannot be done.
fn carry(inside: TcpStream, outside: UnixStream) -> bool {
    let (Ok(mut requests), Ok(mut answers)) = (inside.try_clone(), outside.try_clone()) else {
        return false;
    };
    let _ = inside.set_nodelay(true);
    let back = thread::Builder::new().spawn(move || {
        let mut inside = inside;
        let _ = std::io::copy(&mut answers, &mut inside);
        let _ = inside.shutdown(Shutdown::Both);
    });
    let Ok(back) = back else { return false };
    let mut outside = outside;
    let _ = std::io::copy(&mut requests, &mut outside);
    let _ = outside.shutdown(Shutdown::Write);
    let _ = back.join();
    true
}

/// The trace of the agent's own probes, which services may take for their callers' and go on with:
/// it is not sampled, and spans of it are none of the test's.
pub(crate) const PROBE_TRACE: &str = "636c6e726d2070726f6265206f6e6c79";

/// How long a probe may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// So much of an answer is read: a server that is still writing when its client leaves may log that.
const MOST_READ: usize = 1 << 20;

/// Whether a port of the loopback accepts a connection and, when `get` names a path, the status
/// it answers a GET with, the `wanted` one if either address does; 0 is no.
pub(super) fn connect(port: u16, get: &str, wanted: u16) -> u16 {
    // As `localhost` means both, in `/etc/hosts`.
    match ask("127.0.0.1", port, get) {
        status if status == wanted => status,
        status => match ask("::1", port, get) {
            0 => status,
            other if other == wanted || status == 0 => other,
            _ => status,
        },
    }
}

fn ask(address: &str, port: u16, get: &str) -> u16 {
    let Ok(mut stream) = TcpStream::connect((address, port)) else { return 0 };
    if get.is_empty() {
        return 1;
    }
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let request = format!(
        "GET {get} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\
         traceparent: 00-{PROBE_TRACE}-70726f6265206f6e-00\r\n\r\n"
    );
    if stream.write_all(request.as_bytes()).is_err() {
        return 0;
    }
    let answer = read_answer(&mut stream);
    let status = answer.get(9..12).and_then(|code| std::str::from_utf8(code).ok());
    status.and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// An answer in HTTP, up to its end.
fn read_answer(stream: &mut TcpStream) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while !is_whole(&answer) && answer.len() < MOST_READ && Instant::now() < deadline {
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => answer.extend(&buffer[..read]),
            _ => break,
        }
    }
    answer
}

/// Returns true when the whole answer has been read, by its `Content-Length` or its last chunk.
/// Without either the answer ends when the server closes the connection.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let body = &answer[end + 4..];
    let value = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| *field == name).map(|(_, value)| value.trim())
    };
    match value("content-length").map(str::parse::<usize>) {
        Some(Ok(length)) => body.len() >= length,
        _ => value("transfer-encoding") == Some("chunked") && body.ends_with(b"0\r\n\r\n"),
    }
}

/// The TCP ports on which something in this network listens, but for the agent's own.
pub(super) fn listening() -> Vec<u16> {
    let files = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let texts = files.map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let lines = texts.iter().flat_map(|text| text.lines());
    let port = |line: &str| {
        let mut words = line.split_whitespace();
        let (_, port) = words.nth(1)?.rsplit_once(':')?;
        // The state of a socket that listens.
        (words.nth(1)? == "0A").then(|| u16::from_str_radix(port, 16).ok())?
    };
    let mut ports: Vec<u16> =
        lines.filter_map(port).filter(|port| !super::OTLP_PORTS.contains(port)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
