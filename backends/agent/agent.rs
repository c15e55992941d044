//! Process 1 of a container: starts processes when asked, streams their output, and carries OTLP
//! from the container's loopback to the receiver outside.
//!
//! It talks to its host over a unix socket in a bind-mounted folder, so it needs no network. The
//! host listens and the agent connects: an accepted connection means the container is up, and when
//! the host is gone the connection ends and the container with it.

pub(crate) mod relay;
pub(crate) mod resolver;
pub(crate) mod sys;
pub(crate) mod wire;

use std::collections::HashMap;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use self::relay::Relay;
use self::wire::{Reply, Request, Spawn, UNTOLD};

/// Where a container sees the folder with the host's sockets.
pub(crate) const FOLDER: &str = "/run/clnrm";
/// The host's socket for requests in that folder.
pub(crate) const HOST_SOCKET: &str = "host.sock";
/// The file in that folder with the program that filters system calls, where no engine does.
pub(crate) const FILTER: &str = "filter";
/// The host's OTLP socket in that folder.
pub(crate) const OTLP_SOCKET: &str = "otlp.sock";
/// The socket in that folder for connections to hosts outside that the test allows.
pub(crate) const OUTSIDE_SOCKET: &str = "outside.sock";
/// The socket in that folder for connections from the host to ports of the container.
pub(crate) const INSIDE_SOCKET: &str = "inside.sock";
/// The ports of the container's loopback on which OTLP is taken.
pub(crate) const OTLP_PORTS: [u16; 2] = [4317, 4318];

/// How long bytes of processes that have ended may still be on their way to the receiver.
const DRAIN: Duration = Duration::from_secs(1);

/// A pipe's content is read in at most so many pieces.
const MOST_LEFT: usize = 32;

/// Serves the host whose sockets are in `folder` until it goes away, then ends the process.
///
/// With `listen`, OTLP sent to the loopback is carried to the host.
pub(crate) fn serve(folder: &Path, listen: bool) -> ! {
    let Ok(mut host) = UnixStream::connect(folder.join(HOST_SOCKET)) else {
        eprintln!("clnrm agent: no host at {}", folder.display());
        std::process::exit(125);
    };
    let relay = Relay::default();
    let taken = if listen { relay.listen(&folder.join(OTLP_SOCKET)) } else { Vec::new() };
    let agent = Agent {
        host: Arc::new(Mutex::new(host.try_clone().expect("a connected socket can be cloned"))),
        children: Arc::default(),
        relay,
        folder: Arc::new(folder.to_owned()),
    };
    agent.reap();
    agent.resolve();
    agent.reply(&Reply::Hello { refused_ports: taken });
    while let Ok(request) = Request::read(&mut host) {
        agent.answer(request);
    }
    // As process 1: the kernel ends everything else in the container.
    std::process::exit(0);
}

/// The word for taking OTLP.
#[allow(dead_code, reason = "the sandbox starts none by words")]
pub(crate) const LISTEN: &str = "listen";
/// The word for [`restrict`].
#[allow(dead_code, reason = "the sandbox restricts itself")]
pub(crate) const FILTERED: &str = "filtered";

/// Has the system calls of this process, and of all it starts, filtered as the host says.
#[allow(dead_code, reason = "the sandbox restricts itself")]
pub(crate) fn restrict(folder: &Path) -> std::io::Result<()> {
    let program = std::fs::read(folder.join(FILTER))?;
    let (instructions, _) = program.as_chunks();
    let program: Vec<u64> = instructions.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect();
    sys::filter_calls(&program)
}

/// The word for [`cut_off`].
#[allow(dead_code, reason = "the sandbox makes networks without routes")]
pub(crate) const CUT_OFF: &str = "cut-off";

/// Removes the ways that lead out of this network; false when one is left.
#[allow(dead_code, reason = "the sandbox makes networks without routes")]
pub(crate) fn cut_off() -> bool {
    while sys::remove_default_route() {}
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let is_default = |line: &str| line.split_whitespace().nth(1) == Some("00000000");
    !routes.is_empty() && !routes.lines().any(is_default)
}

/// Lets no program started from now on inherit more than the three standard streams.
#[allow(dead_code, reason = "the static agent is started by an engine, with nothing else open")]
pub(crate) fn keep_only_standard_streams() {
    sys::close_on_exec_from(3);
}

#[derive(Clone)]
struct Agent {
    host: Arc<Mutex<UnixStream>>,
    children: Arc<Children>,
    relay: Relay,
    /// Where the host's sockets are.
    folder: Arc<PathBuf>,
}

/// The running processes, and a signal for whoever waits for a change among them.
#[derive(Default)]
struct Children {
    running: Mutex<Running>,
    changed: Condvar,
}

#[derive(Default)]
struct Running {
    /// By process id: who is told of the end, with the wait status.
    told: HashMap<i32, (u32, PipeWriter)>,
    /// Wait statuses by request id, until the process' own thread takes them.
    statuses: HashMap<u32, i32>,
    /// Process ids by request id.
    pids: HashMap<u32, i32>,
    /// Whether any child, ours or adopted, may be alive.
    alive: bool,
}

impl Agent {
    fn reply(&self, reply: &Reply) {
        // A host that is gone is noticed by the reading side.
        let _ = self.host.lock().expect("no reply panics").write_all(&reply.encode());
    }

    /// Tells of names that are looked up and not known here, with the process that asked.
    fn resolve(&self) {
        let agent = self.clone();
        resolver::start(move |from, name| {
            let askers = resolver::askers(from);
            let running = agent.children.running.lock().expect("no holder panics");
            let mut of = running.pids.iter().filter(|(_, pid)| askers.contains(pid));
            let id = of.next().map_or(0, |(id, _)| *id);
            drop(running);
            agent.reply(&Reply::Asked { id, name });
        });
    }

    fn answer(&self, request: Request) {
        match request {
            Request::Spawn(spawn) => {
                let (id, agent) = (spawn.id, self.clone());
                // The thread comes first: a process may take all the container may have.
                let started = on_thread(move || {
                    if let Err(reason) = agent.run(&spawn) {
                        agent.reply(&Reply::NotStarted { id, reason });
                    }
                });
                if !started {
                    let reason = "the container may have no more processes".to_owned();
                    self.reply(&Reply::NotStarted { id, reason });
                }
            }
            Request::Kill { id } => {
                let running = self.children.running.lock().expect("no holder panics");
                if let Some(pid) = running.pids.get(&id) {
                    sys::kill(-pid, sys::SIGKILL);
                }
            }
            Request::Connect { id, port, get, wanted } => {
                let agent = self.clone();
                let started = on_thread(move || {
                    agent.reply(&Reply::Connected {
                        id,
                        status: relay::connect(port, &get, wanted),
                    });
                });
                if !started {
                    self.reply(&Reply::Connected { id, status: 0 });
                }
            }
            Request::Listen { id, at, port, target } => {
                let status =
                    relay::offer(at.into(), port, &self.folder.join(OUTSIDE_SOCKET), target).into();
                self.reply(&Reply::Connected { id, status });
            }
            Request::Dial { port, number } => {
                let socket = self.folder.join(INSIDE_SOCKET);
                on_thread(move || relay::dial(&socket, port, number));
            }
            Request::Listening { id } => {
                self.reply(&Reply::Listening { id, ports: relay::listening() });
            }
            Request::HasProcesses { id } => {
                let status = sys::has_children().into();
                self.reply(&Reply::Connected { id, status });
            }
            Request::Stop { grace_ms } => {
                let grace = Duration::from_millis(grace_ms.into());
                let agent = self.clone();
                if !on_thread(move || agent.end(grace)) {
                    // There are too many: nothing else can be asked for until they have ended.
                    self.end(grace);
                }
            }
        }
    }

    /// Ends all processes, and tells how they ended.
    fn end(&self, grace: Duration) {
        let killed = self.stop(grace);
        let drained = self.relay.drain(DRAIN);
        self.reply(&Reply::Stopped {
            drained,
            killed,
            unrouted: unrouted(),
            out_of_memory: met(["memory.events", "memory/memory.oom_control"], "oom_kill"),
            out_of_processes: met(["pids.events", "pids/pids.events"], "max"),
        });
    }

    /// Starts a process in a group of its own, and follows it to its end.
    fn run(&self, spawn: &Spawn) -> Result<(), String> {
        let mut command = command(spawn)?;
        let (exited, tell) = std::io::pipe().map_err(|e| e.to_string())?;
        // Held until the process is known, so that its end is not taken for a stranger's.
        let mut running = self.children.running.lock().expect("no holder panics");
        let mut child = command.spawn().map_err(|error| {
            format!("cannot start `{}`: {error}", spawn.argv.first().map_or("", |word| word))
        })?;
        let pid = child.id() as i32;
        // When memory runs out, the container's own process is not the one to go.
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "500");
        running.told.insert(pid, (spawn.id, tell));
        running.pids.insert(spawn.id, pid);
        running.alive = true;
        self.children.changed.notify_all();
        drop(running);
        self.reply(&Reply::Started { id: spawn.id });
        let mut streams: [Option<Box<dyn Stream>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as _),
            child.stderr.take().map(|stream| Box::new(stream) as _),
        ];
        self.follow(spawn.id, &mut streams, &exited);
        Ok(())
    }

    /// Streams a process' output, and tells of its end once all it wrote has been sent.
    fn follow(
        &self,
        id: u32,
        streams: &mut [Option<Box<dyn Stream>>; 2],
        exited: &std::io::PipeReader,
    ) {
        loop {
            let fds = [fd(&streams[0]), fd(&streams[1]), exited.as_raw_fd()];
            let ready = sys::poll(fds, true);
            self.forward(id, streams, ready);
            if ready[2] {
                break;
            }
        }
        // What it wrote before its end is in the pipes now; what its children write may follow,
        // and may never stop.
        for _ in 0..MOST_LEFT {
            let ready = sys::poll([fd(&streams[0]), fd(&streams[1]), -1], false);
            if ready == [false; 3] {
                break;
            }
            self.forward(id, streams, ready);
        }
        let status = {
            let mut running = self.children.running.lock().expect("no holder panics");
            running.pids.remove(&id);
            running.statuses.remove(&id).unwrap_or_default()
        };
        self.reply(&match sys::ended(status) {
            Ok(code) => Reply::Exited { id, code },
            Err(signal) => Reply::Signaled { id, signal },
        });
        while streams.iter().any(Option::is_some) {
            let ready = sys::poll([fd(&streams[0]), fd(&streams[1]), -1], true);
            self.forward(id, streams, ready);
        }
    }

    fn forward(&self, id: u32, streams: &mut [Option<Box<dyn Stream>>; 2], ready: [bool; 3]) {
        let mut buffer = [0; 64 * 1024];
        for (number, stream) in (1..).zip(streams).filter(|(number, _)| ready[number - 1]) {
            match stream.as_mut().map_or(Ok(0), |stream| stream.read(&mut buffer)) {
                Ok(0) | Err(_) => *stream = None,
                Ok(n) => {
                    let bytes = buffer[..n].to_vec();
                    self.reply(&Reply::Output { id, stream: number as u16, bytes });
                }
            }
        }
    }

    /// Collects every child that ends, adopted ones too, on a thread of its own.
    fn reap(&self) {
        let children = self.children.clone();
        thread::spawn(move || {
            loop {
                let none = !sys::wait_for_any();
                let mut running = children.running.lock().expect("no holder panics");
                if none && running.told.is_empty() {
                    running.alive = false;
                    children.changed.notify_all();
                    while !running.alive {
                        running = children.changed.wait(running).expect("no holder panics");
                    }
                }
                while let Some((pid, status)) = sys::reap() {
                    if let Some((id, tell)) = running.told.remove(&pid) {
                        running.statuses.insert(id, status);
                        drop(tell);
                    }
                }
                children.changed.notify_all();
            }
        });
    }

    /// Ends all processes. Those that were asked for are asked first, as engines do it, then what
    /// they left behind; whatever is still there after `grace` is killed.
    ///
    /// Says whether anything was.
    fn stop(&self, grace: Duration) -> bool {
        let running = self.children.running.lock().expect("no holder panics");
        running.pids.values().for_each(|pid| sys::kill(*pid, sys::SIGTERM));
        drop(running);
        let asked = self.wait(grace, |running| running.told.is_empty());
        if asked {
            self.signal_all(sys::SIGTERM);
        }
        let ended = asked && self.wait(grace, |running| !running.alive);
        if !ended {
            self.signal_all(sys::SIGKILL);
            self.wait(DRAIN, |running| !running.alive);
        }
        !ended
    }

    /// Waits for `condition` of the processes; says whether it came true within `limit`.
    fn wait(&self, limit: Duration, condition: impl Fn(&Running) -> bool) -> bool {
        let running = self.children.running.lock().expect("no holder panics");
        let waited = self.children.changed.wait_timeout_while(running, limit, |r| !condition(r));
        !waited.expect("no holder panics").1.timed_out()
    }

    /// To every other process of the container.
    fn signal_all(&self, signal: i32) {
        if std::process::id() == 1 {
            sys::kill(-1, signal);
        }
    }
}

/// A process' output pipe.
trait Stream: Read + AsRawFd + Send {}
impl<T: Read + AsRawFd + Send> Stream for T {}

fn fd(stream: &Option<Box<dyn Stream>>) -> i32 {
    stream.as_ref().map_or(-1, |stream| stream.as_raw_fd())
}

fn command(spawn: &Spawn) -> Result<Command, String> {
    let lookup = |name: &str| {
        let own = spawn.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        own.or_else(|| std::env::var(name).ok())
    };
    let argv = expand(&spawn.argv, lookup);
    let (program, arguments) = argv.split_first().ok_or("the command is empty")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(spawn.env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if !spawn.workdir.is_empty() {
        // As engines do: a working directory that is not there is made.
        let _ = std::fs::create_dir_all(&spawn.workdir);
        if !Path::new(&spawn.workdir).is_dir() {
            return Err(format!("the working directory `{}` is not a folder", spawn.workdir));
        }
        command.current_dir(&spawn.workdir);
    }
    Ok(command)
}

/// Does `work` beside what goes on; false when there can be no more threads.
fn on_thread(work: impl FnOnce() + Send + 'static) -> bool {
    thread::Builder::new().spawn(work).is_ok()
}

/// Replaces `${NAME}` by the variable where it is set, except in shell scripts, which do so
/// themselves.
fn expand(argv: &[String], lookup: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let shell = argv.first().is_some_and(|word| word.ends_with("sh"))
        && argv.get(1).is_some_and(|word| word.starts_with('-') && word.ends_with('c'));
    if shell {
        return argv.to_vec();
    }
    argv.iter().map(|word| expand_word(word, &lookup)).collect()
}

fn expand_word(word: &str, lookup: &impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = word;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        expanded.push_str(before);
        let value = from[2..].find('}').and_then(|end| Some((lookup(&from[2..2 + end])?, end)));
        match value {
            Some((value, end)) => {
                expanded.push_str(&value);
                rest = &from[end + 3..];
            }
            None => {
                expanded.push_str("${");
                rest = &from[2..];
            }
        }
    }
    expanded + rest
}

/// How often a limit was met, as the container's control group counts it, by version 2 or 1.
fn met(files: [&str; 2], counted: &str) -> u32 {
    let read = |file| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok();
    let Some(text) = files.into_iter().find_map(read) else { return 0 };
    let counts = text.lines().filter_map(|line| line.split_once(' '));
    let mut count = counts.filter(|(name, _)| *name == counted);
    count.next().and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// How often something in this network namespace was sent to where no route leads, as the kernel
/// counts it.
fn unrouted() -> u32 {
    let old = std::fs::read_to_string("/proc/self/net/snmp").ok().and_then(|text| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
        let (names, numbers) = (lines.next()?, lines.next()?);
        let at = names.split(' ').position(|name| name == "OutNoRoutes")?;
        numbers.split(' ').nth(at)?.parse::<u32>().ok()
    });
    // A kernel without IPv6 has no such file, and sends nothing.
    let new = std::fs::read_to_string("/proc/self/net/snmp6").unwrap_or_default();
    let new = new.lines().find_map(|line| line.strip_prefix("Ip6OutNoRoutes"));
    let new = new.and_then(|number| number.trim().parse::<u32>().ok()).unwrap_or(0);
    old.map_or(UNTOLD, |old| old.saturating_add(new))
}
