//! The engines tests run on, and what is to be seen of them from outside.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::case::{Case, tell};

/// An image with a shell and little else, made by whoever set up the engine.
pub(crate) const BUSYBOX: &str = "localhost/clnrm/busybox:1";

/// Where and in what containers run.
#[derive(Clone, Copy)]
pub(crate) enum On {
    /// The sandbox, in the image `host`.
    Sandbox,
    /// Podman, in a small image.
    Busybox,
    /// Podman, in the image `host`.
    Host,
}

impl On {
    /// Settings that make a workspace run there.
    fn settings(self) -> String {
        let (backend, image) = match self {
            On::Sandbox => ("sandbox", "host"),
            On::Busybox => ("podman", BUSYBOX),
            On::Host => ("podman", "host"),
        };
        format!("backend = \"{backend}\"\ndefault_image = \"{image}\"\n")
    }

    /// A case that runs there, or `None`, loudly, when that is not possible on this machine.
    pub(crate) fn case(self, test: &str, fixture: &str) -> Option<Case> {
        let mut case = Case::new(fixture);
        if !matches!(self, On::Sandbox) {
            podman(test)?.show_to(&mut case);
        }
        case.write("clnrm.toml", self.settings());
        Some(case)
    }
}

/// Defines each function that takes an [`On`] as a test on every one of them.
macro_rules! on_every_engine {
    ($($name:ident),+ $(,)?) => {
        on_every_engine!(@ sandbox Sandbox $($name)+);
        on_every_engine!(@ podman_busybox Busybox $($name)+);
        on_every_engine!(@ podman_host Host $($name)+);
    };
    (@ $module:ident $on:ident $($name:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    super::$name(crate::engines::On::$on);
                }
            )+
        }
    };
}
pub(crate) use on_every_engine;

/// Podman's service.
pub(crate) struct Podman {
    pub(crate) socket: PathBuf,
}

/// Podman, or a loud word that `test` did not run without it.
pub(crate) fn podman(test: &str) -> Option<Podman> {
    let host = std::env::var("CONTAINER_HOST").unwrap_or_default();
    let socket = match host.strip_prefix("unix://").unwrap_or(&host) {
        "" => "/run/podman/podman.sock",
        socket => socket,
    };
    let podman = Podman { socket: socket.into() };
    let missing = if UnixStream::connect(&podman.socket).is_err() {
        format!("Podman at {socket}")
    } else if !podman.has(BUSYBOX) {
        format!("the image {BUSYBOX} in Podman")
    } else {
        return Some(podman);
    };
    let required = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!required, "{test} needs {missing}");
    tell(&format!("NOT RUN: {test} needs {missing}"));
    None
}

impl Podman {
    /// Lets clnrm find it in `case`.
    pub(crate) fn show_to(&self, case: &mut Case) {
        case.set_env("CONTAINER_HOST", &format!("unix://{}", self.socket.display()));
    }

    /// The names of all containers, running or not, that the clnrm with this process id made.
    pub(crate) fn containers_of(&self, pid: i32) -> BTreeSet<String> {
        let filter = format!("%7B%22label%22:%5B%22clnrm.pid={pid}%22%5D%7D");
        let answer = self.get(&format!("containers/json?all=true&filters={filter}"));
        let (head, body) = answer.split_once("\r\n\r\n").expect("it answers in HTTP");
        assert!(head.contains(" 200 "), "{head}");
        let list: Value = serde_json::from_str(body).expect("it lists containers");
        let containers = list.as_array().into_iter().flatten();
        containers.map(|container| container["Names"][0].to_string()).collect()
    }

    fn has(&self, image: &str) -> bool {
        self.get(&format!("images/{image}/exists")).contains(" 204 ")
    }

    fn get(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        // The older HTTP: an answer ends with the connection.
        write!(stream, "GET /v4.0.0/libpod/{path} HTTP/1.0\r\nHost: d\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// A socket that leads to another one until it is cut.
pub(crate) struct Line {
    pub(crate) socket: PathBuf,
    open: Arc<Mutex<Option<Vec<UnixStream>>>>,
}

impl Line {
    pub(crate) fn to(real: &Path, socket: PathBuf) -> Line {
        let listener = UnixListener::bind(&socket).unwrap();
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let line = Line { socket, open: open.clone() };
        let real = real.to_owned();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far = UnixStream::connect(&real).unwrap();
                let mut open = open.lock().unwrap();
                // Cut: whoever still comes finds a listener that hangs up.
                let Some(open) = &mut *open else { return };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    copy(from.try_clone().unwrap(), to.try_clone().unwrap());
                }
                open.extend([near, far]);
            }
        });
        line
    }

    /// Removes the socket and ends every connection.
    pub(crate) fn cut(&self) {
        fs::remove_file(&self.socket).unwrap();
        let open = self.open.lock().unwrap().take();
        for stream in open.into_iter().flatten() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn copy(mut from: UnixStream, mut to: UnixStream) {
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

/// A process of this machine.
pub(crate) struct Process {
    pub(crate) parent: i32,
    pub(crate) command: String,
}

/// All processes there are; those that end meanwhile are left out.
pub(crate) fn processes() -> Vec<Process> {
    let read = |folder: PathBuf| {
        let command = fs::read(folder.join("cmdline")).ok()?;
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // The name before may hold anything; behind it are the state and the parent.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some(Process { parent, command: String::from_utf8_lossy(&command).replace('\0', " ") })
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| read(entry.path())).collect()
}

/// How many processes have `marker` among their arguments.
pub(crate) fn with_argument(marker: &str) -> usize {
    processes().iter().filter(|process| process.command.contains(marker)).count()
}
