//! The engines tests run on, and what is to be seen of them from outside.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::case::Case;
use crate::lacking::not_run;
use crate::nobody::Nobody;

/// An image with a shell and little else, made by whoever set up the engine.
pub(crate) const BUSYBOX: &str = "localhost/clnrm/busybox:1";

/// Where and in what containers run.
#[derive(Clone, Copy)]
pub(crate) enum On {
    /// The sandbox, in the image `host`.
    Sandbox,
    /// The same, run by a user without privileges.
    Unprivileged,
    /// Podman, in this image.
    Podman(&'static str),
    /// Docker, in this image.
    Docker(&'static str),
}

impl On {
    /// A case that runs there, or `None`, loudly, when that is not possible on this machine.
    pub(crate) fn case(self, test: &str, fixture: &str) -> Option<Case> {
        let mut case = Case::new(fixture);
        let (backend, image) = match self {
            On::Sandbox | On::Unprivileged => ("sandbox", "host"),
            On::Podman(image) => ("podman", image),
            On::Docker(image) => ("docker", image),
        };
        case.write("clnrm.toml", format!("backend = \"{backend}\"\ndefault_image = \"{image}\"\n"));
        match self {
            On::Sandbox => {}
            On::Unprivileged if !Nobody::can_be(test) => return None,
            On::Unprivileged => case.give_to_nobody(),
            On::Podman(_) | On::Docker(_) => self.engine(test)?.show_to(&mut case),
        }
        Some(case)
    }

    /// The engine, if it is one; loudly when it is not there.
    pub(crate) fn engine(self, test: &str) -> Option<Engine> {
        match self {
            On::Sandbox | On::Unprivileged => None,
            On::Podman(_) => podman(test),
            On::Docker(_) => docker(test),
        }
    }
}

/// Defines each function that takes an [`On`] as a test on every one of them.
macro_rules! on_every_engine {
    ($($name:ident),+ $(,)?) => {
        on_every_engine!(@ sandbox (On::Sandbox) $($name)+);
        on_every_engine!(@ unprivileged (On::Unprivileged) $($name)+);
        on_every_engine!(@ podman_busybox (On::Podman(BUSYBOX)) $($name)+);
        on_every_engine!(@ podman_host (On::Podman("host")) $($name)+);
        on_every_engine!(@ docker_busybox (On::Docker(BUSYBOX)) $($name)+);
        on_every_engine!(@ docker_host (On::Docker("host")) $($name)+);
    };
    (@ $module:ident ($on:expr) $($name:ident)+) => {
        mod $module {
            #[allow(unused_imports, reason = "not every one of them is in an image by name")]
            use crate::engines::{BUSYBOX, On};
            $(
                #[test]
                fn $name() {
                    super::$name($on);
                }
            )+
        }
    };
}
pub(crate) use on_every_engine;

/// The same, in the sandbox only.
macro_rules! in_every_sandbox {
    ($($name:ident),+ $(,)?) => {
        on_every_engine!(@ sandbox (On::Sandbox) $($name)+);
        on_every_engine!(@ unprivileged (On::Unprivileged) $($name)+);
    };
}
pub(crate) use in_every_sandbox;

/// An engine's service.
pub(crate) struct Engine {
    pub(crate) socket: PathBuf,
    /// By which programs are told where it is.
    variable: &'static str,
}

/// Podman, or a loud word that `test` did not run without it.
pub(crate) fn podman(test: &str) -> Option<Engine> {
    engine("Podman", "CONTAINER_HOST", "/run/podman/podman.sock", test)
}

/// Docker, or a loud word that `test` did not run without it.
pub(crate) fn docker(test: &str) -> Option<Engine> {
    engine("Docker", "DOCKER_HOST", "/run/docker.sock", test)
}

fn engine(name: &str, variable: &'static str, usual: &'static str, test: &str) -> Option<Engine> {
    let host = std::env::var(variable).unwrap_or_default();
    let socket = match host.strip_prefix("unix://").unwrap_or(&host) {
        "" => usual,
        socket => socket,
    };
    let engine = Engine { socket: socket.into(), variable };
    let missing = if UnixStream::connect(&engine.socket).is_err() {
        format!("{name} at {socket}")
    } else if !engine.has(BUSYBOX) {
        format!("the image {BUSYBOX} in {name}")
    } else {
        return Some(engine);
    };
    not_run(test, &missing);
    None
}

impl Engine {
    /// Lets clnrm find it in `case`.
    pub(crate) fn show_to(&self, case: &mut Case) {
        case.set_env(self.variable, &format!("unix://{}", self.socket.display()));
    }

    /// The names of all containers, running or not, that the clnrm with this process id made.
    pub(crate) fn containers_of(&self, pid: i32) -> BTreeSet<String> {
        self.labelled("containers/json?all=true&", pid, |container| &container["Names"][0])
    }

    /// The same of containers and networks.
    pub(crate) fn made_by(&self, pid: i32) -> BTreeSet<String> {
        let mut all = self.labelled("networks?", pid, |network| &network["Name"]);
        all.extend(self.containers_of(pid));
        all
    }

    fn labelled(&self, list: &str, pid: i32, name: fn(&Value) -> &Value) -> BTreeSet<String> {
        let filter = format!("%7B%22label%22:%5B%22clnrm.pid={pid}%22%5D%7D");
        let answer = self.get(&format!("{list}filters={filter}"));
        let (head, body) = answer.split_once("\r\n\r\n").expect("it answers in HTTP");
        assert!(head.contains(" 200 "), "{head}");
        let list: Value = serde_json::from_str(body).expect("it is a list");
        list.as_array().into_iter().flatten().map(|each| name(each).to_string()).collect()
    }

    fn has(&self, image: &str) -> bool {
        self.get(&format!("images/{image}/json")).contains(" 200 ")
    }

    /// Writes an image as an archive.
    pub(crate) fn save(&self, image: &str, archive: &Path) {
        let answer = self.get_bytes(&format!("images/{image}/get"));
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("it is HTTP");
        fs::write(archive, &answer[head + 4..]).unwrap();
    }

    fn get(&self, path: &str) -> String {
        String::from_utf8(self.get_bytes(path)).expect("it answers in UTF-8")
    }

    /// What is answered in the language that both speak.
    fn get_bytes(&self, path: &str) -> Vec<u8> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        // The older HTTP: an answer ends with the connection.
        write!(stream, "GET /{path} HTTP/1.0\r\nHost: d\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }
}

/// A socket that leads to another one until it is cut.
pub(crate) struct Line {
    pub(crate) socket: PathBuf,
    pub(crate) real: PathBuf,
    open: Arc<Mutex<Option<Vec<UnixStream>>>>,
}

impl Line {
    pub(crate) fn to(real: &Path, socket: PathBuf) -> Line {
        let listener = UnixListener::bind(&socket).unwrap();
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let real = real.to_owned();
        let line = Line { socket, real: real.clone(), open: open.clone() };
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
    pub(crate) id: i32,
    pub(crate) parent: i32,
    pub(crate) command: String,
}

/// All processes there are; those that end meanwhile are left out.
pub(crate) fn processes() -> Vec<Process> {
    let read = |folder: PathBuf| {
        let id = folder.file_name()?.to_str()?.parse().ok()?;
        let command = fs::read(folder.join("cmdline")).ok()?;
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // The name before may hold anything; behind it are the state and the parent.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some(Process { id, parent, command: String::from_utf8_lossy(&command).replace('\0', " ") })
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| read(entry.path())).collect()
}

/// How many processes have `marker` among their arguments.
pub(crate) fn with_argument(marker: &str) -> usize {
    processes().iter().filter(|process| process.command.contains(marker)).count()
}
