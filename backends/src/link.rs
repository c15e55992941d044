//! The host's side of the line to a container's agent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::action::Limits;
use crate::agent::wire::{Reply, Request, Spawn, UNTOLD};
use crate::outcome::Ended;

/// Names that are kept of a container.
const MOST_NAMES: usize = 1024;
/// Replies that concern no process go to this id.
const AGENT: u32 = 0;

/// A connected agent. When it is dropped the agent ends, and its container with it.
pub(crate) struct Link {
    requests: tokio::sync::Mutex<OwnedWriteHalf>,
    replies: Replies,
    next: AtomicU32,
    ended: Arc<AtomicBool>,
    asked: Asked,
}

/// Names that were looked up and are none of the test's, each with the process that asked.
type Asked = Arc<Mutex<BTreeSet<(u32, String)>>>;

type Replies = Arc<Mutex<HashMap<u32, mpsc::Sender<Reply>>>>;

/// The agent is gone: its container ended, or was removed by somebody else.
#[derive(Debug)]
pub(crate) struct Lost;

impl Link {
    /// Waits for an agent to call.
    pub(crate) async fn accept(listener: &UnixListener) -> io::Result<Link> {
        let (stream, _) = listener.accept().await?;
        let (read, write) = stream.into_split();
        let link = Link {
            requests: tokio::sync::Mutex::new(write),
            replies: Replies::default(),
            next: AtomicU32::new(AGENT + 1),
            ended: Arc::default(),
            asked: Arc::default(),
        };
        let mut hello = link.expect(AGENT);
        let (replies, ended, asked) =
            (link.replies.clone(), link.ended.clone(), link.asked.clone());
        tokio::spawn(distribute(read, replies, ended, asked));
        match hello.recv().await {
            Some(Reply::Hello { .. }) => Ok(link),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the agent did not say hello")),
        }
    }

    /// The names that were looked up so far and are none of the test's, each with the process that
    /// asked, or 0.
    pub(crate) fn asked(&self) -> Vec<(u32, String)> {
        self.asked.lock().expect("no holder panics").iter().cloned().collect()
    }

    /// Whether the agent has gone away.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Starts a process in the container.
    pub(crate) async fn spawn(
        &self,
        argv: Vec<String>,
        env: BTreeMap<String, String>,
        workdir: Option<String>,
    ) -> Result<Process, Lost> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let replies = self.expect(id);
        let env = env.into_iter().collect();
        let workdir = workdir.unwrap_or_default();
        self.ask(&Request::Spawn(Spawn { id, argv, env, workdir })).await?;
        Ok(Process { id, replies })
    }

    /// Kills a process and all of its group.
    pub(crate) async fn kill(&self, process: u32) -> Result<(), Lost> {
        self.ask(&Request::Kill { id: process }).await
    }

    /// Tries a port on both loopback addresses of the cell. With a path, sends a GET and returns the
    /// HTTP status: the `wanted` one if either address answers with it.
    pub(crate) async fn connect(
        &self,
        port: u16,
        get: &str,
        wanted: u16,
    ) -> Result<Option<u16>, Lost> {
        let get = get.to_owned();
        match self.answer_to(|id| Request::Connect { id, port, get, wanted }).await? {
            Reply::Connected { status: 0, .. } => Ok(None),
            Reply::Connected { status, .. } => Ok(Some(status)),
            _ => Err(Lost),
        }
    }

    /// Has connections to an address of the loopback carried outside, with this number of their
    /// target. When it is taken already, whoever connects reaches what took it.
    pub(crate) async fn listen(&self, at: Ipv4Addr, port: u16, target: u32) -> Result<(), Lost> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut replies = self.expect(id);
        self.ask(&Request::Listen { id, at: at.into(), port, target }).await?;
        replies.recv().await.map(drop).ok_or(Lost)
    }

    /// Has the agent call back at its socket for that, and carry what comes over the connection of
    /// this number to a port of the cell's loopback.
    pub(crate) async fn dial(&self, port: u16, number: u32) -> Result<(), Lost> {
        self.ask(&Request::Dial { port, number }).await
    }

    /// Returns true while a process other than the agent runs in the container.
    pub(crate) async fn has_processes(&self) -> Result<bool, Lost> {
        match self.answer_to(|id| Request::HasProcesses { id }).await? {
            Reply::Connected { status, .. } => Ok(status != 0),
            _ => Err(Lost),
        }
    }

    /// The ports on which something listens in the container's network.
    pub(crate) async fn listening(&self) -> Result<Vec<u16>, Lost> {
        match self.answer_to(|id| Request::Listening { id }).await? {
            Reply::Listening { ports, .. } => Ok(ports),
            _ => Err(Lost),
        }
    }

    /// Ends all processes, and waits until all they exported has left the container.
    pub(crate) async fn stop(&self, grace: Duration) -> Result<Stopped, Lost> {
        let mut replies = self.expect(AGENT);
        self.ask(&Request::Stop { grace_ms: grace.as_millis() as u32 }).await?;
        match replies.recv().await {
            Some(Reply::Stopped { drained, killed, unrouted, out_of_memory, out_of_processes }) => {
                let unrouted = (unrouted != UNTOLD).then_some(unrouted.into());
                Ok(Stopped { drained, killed, unrouted, out_of_memory, out_of_processes })
            }
            _ => Err(Lost),
        }
    }

    /// Sends a request with a fresh id and waits for its one reply.
    async fn answer_to(&self, request: impl FnOnce(u32) -> Request) -> Result<Reply, Lost> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut replies = self.expect(id);
        self.ask(&request(id)).await?;
        replies.recv().await.ok_or(Lost)
    }

    async fn ask(&self, request: &Request) -> Result<(), Lost> {
        self.requests.lock().await.write_all(&request.encode()).await.map_err(|_| Lost)
    }

    /// Registers interest in what is said about `id`.
    fn expect(&self, id: u32) -> mpsc::Receiver<Reply> {
        let (send, receive) = mpsc::channel(16);
        self.replies.lock().expect("no holder panics").insert(id, send);
        receive
    }
}

/// How the processes of a container ended.
pub(crate) struct Stopped {
    /// Whether all they exported has left the container.
    pub(crate) drained: bool,
    /// Whether some had to be killed.
    pub(crate) killed: bool,
    /// How often something was sent to where no route leads, in all of the cell; `None` when the
    /// kernel does not say.
    pub(crate) unrouted: Option<u64>,
    /// How often a process was killed because the container had no memory left.
    out_of_memory: u32,
    /// How often a process was not started because the container had too many.
    out_of_processes: u32,
}

impl Stopped {
    /// What is to be told of limits that the container called `name` has met.
    pub(crate) fn limits_met(&self, name: &str, limits: &Limits) -> Vec<String> {
        let mut met = Vec::new();
        if self.out_of_memory > 0 {
            let limit =
                limits.memory_mb.map_or("its".to_owned(), |limit| format!("{limit} MiB of"));
            met.push(format!("service `{name}` used up {limit} memory, and a process was killed"));
        }
        if self.out_of_processes > 0 {
            let limit = limits.pids.map_or("its".to_owned(), |limit| format!("its {limit}"));
            met.push(format!(
                "service `{name}` used up {limit} processes, and one was not started"
            ));
        }
        met
    }
}

/// A process in a container.
pub(crate) struct Process {
    pub(crate) id: u32,
    replies: mpsc::Receiver<Reply>,
}

/// What a process did next.
pub(crate) enum Progress {
    /// It wrote to its standard output.
    Stdout(Vec<u8>),
    /// It wrote to its standard error.
    Stderr(Vec<u8>),
    /// It ended; nothing follows that it wrote itself.
    Ended(Ended),
}

impl Process {
    /// Waits for what it does next. Can be cancelled without losing anything.
    pub(crate) async fn next(&mut self) -> Result<Progress, Lost> {
        loop {
            return Ok(match self.replies.recv().await.ok_or(Lost)? {
                Reply::Output { stream: 1, bytes, .. } => Progress::Stdout(bytes),
                Reply::Output { bytes, .. } => Progress::Stderr(bytes),
                Reply::Exited { code, .. } => Progress::Ended(Ended::Code(code)),
                Reply::Signaled { signal, .. } => Progress::Ended(Ended::Signal(signal)),
                Reply::NotStarted { reason, .. } => Progress::Ended(Ended::NotStarted(reason)),
                _ => continue,
            });
        }
    }
}

/// Hands each reply to whoever expects it, until the agent is gone.
async fn distribute(
    mut stream: OwnedReadHalf,
    replies: Replies,
    ended: Arc<AtomicBool>,
    asked: Asked,
) {
    while let Some(reply) = read(&mut stream).await {
        let id = match &reply {
            Reply::Asked { id, name } => {
                let mut asked = asked.lock().expect("no holder panics");
                if asked.len() < MOST_NAMES {
                    asked.insert((*id, name.clone()));
                }
                continue;
            }
            Reply::Hello { .. } | Reply::Stopped { .. } => AGENT,
            Reply::Started { id }
            | Reply::NotStarted { id, .. }
            | Reply::Output { id, .. }
            | Reply::Exited { id, .. }
            | Reply::Signaled { id, .. }
            | Reply::Connected { id, .. }
            | Reply::Listening { id, .. } => *id,
        };
        let expected = replies.lock().expect("no holder panics").get(&id).cloned();
        if let Some(send) = expected {
            // Waits when the reader is behind: output never piles up in memory.
            if send.send(reply).await.is_err() {
                replies.lock().expect("no holder panics").remove(&id);
            }
        }
    }
    ended.store(true, Ordering::Relaxed);
    // Whoever still waits learns that nothing follows.
    replies.lock().expect("no holder panics").clear();
}

async fn read(stream: &mut OwnedReadHalf) -> Option<Reply> {
    let length = stream.read_u32_le().await.ok()? as usize;
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await.ok()?;
    Reply::decode(&frame)
}
