//! What this machine has to run tests with, found out by trying it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use crate::action::{Action, Image, Limits};
use crate::choose::podman_sockets;
use crate::docker::sockets as docker_sockets;
use crate::engine::archive;
use crate::outcome::Ended;
use crate::sandbox::WAY_OUTSIDE;
use crate::{Backend, BackendError, Cancel, Docker, Podman, Sandbox};

/// How long a container may take to say that it works.
const LIMIT: Duration = Duration::from_secs(20);
/// With fewer open files a handful of scenarios at once fail.
const FEW_FILES: u64 = 1024;
/// With fewer watched folders a large tree cannot be watched.
const FEW_WATCHES: u64 = 8192;

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What it is.
    pub name: String,
    /// How it is.
    pub state: Health,
    /// What was seen.
    pub detail: String,
    /// What would mend it, as a command where one does.
    pub mend: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Good,
    /// It is not there, or works in part, and something else may do.
    Lacking,
    /// It is there and does not work.
    Broken,
}

/// Looks at every backend and at what they need; runs a container in each that answers.
///
/// `program` is clnrm itself, `workspace` what mounts are relative to.
pub fn survey(workspace: &Path, program: &Path) -> Vec<Finding> {
    let mut findings = vec![kernel(), sandbox(workspace, program), limits()];
    findings.extend(engine("Podman", podman_sockets(), PODMAN_MENDS, |socket| {
        Ok(Box::new(Podman::connect(socket, workspace)?))
    }));
    findings.extend(engine("Docker", docker_sockets(), DOCKER_MENDS, |socket| {
        Ok(Box::new(Docker::connect(socket, workspace)?))
    }));
    findings.extend([open_networks(), files(), watches()]);
    findings
}

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let (name, release) = (uname.sysname().to_string_lossy(), uname.release().to_string_lossy());
    let machine = uname.machine().to_string_lossy();
    Finding::good("kernel", format!("{name} {release} on {machine}"))
}

fn sandbox(workspace: &Path, program: &Path) -> Finding {
    let tried = Sandbox::probe().and_then(|()| attempt(&Sandbox::new(workspace, program)));
    match tried {
        Ok(took) => Finding::good("sandbox", format!("a container ran in {}", milliseconds(took))),
        Err(error) => {
            let mend = "sysctl kernel.unprivileged_userns_clone=1 \
                        kernel.apparmor_restrict_unprivileged_userns=0";
            Finding::broken("sandbox", error.to_string(), mend)
        }
    }
}

fn limits() -> Finding {
    let wanted = Limits { cpu_millicores: Some(1000), memory_mb: Some(1024), pids: Some(100) };
    match Sandbox::limits_missing(&wanted)[..] {
        [] => Finding::good("limits of the sandbox", "control groups hold them all".to_owned()),
        ref missing => {
            let detail = format!("no limit of {} as this user may set none", missing.join(" and "));
            Finding::lacking("limits of the sandbox", detail, "run as root, or use an engine")
        }
    }
}

/// What mends an engine that is not there, not running, and not for this user.
type Mends = [&'static str; 3];

const PODMAN_MENDS: Mends = [
    "apt install podman",
    "systemctl --user enable --now podman.socket",
    "export CONTAINER_HOST=unix://$XDG_RUNTIME_DIR/podman/podman.sock",
];
const DOCKER_MENDS: Mends =
    ["apt install docker.io", "systemctl enable --now docker", "usermod -aG docker $USER"];

fn engine(
    name: &'static str,
    sockets: Result<Vec<std::path::PathBuf>, String>,
    [absent, silent, refused]: Mends,
    connect: impl Fn(&Path) -> Result<Box<dyn Backend>, BackendError>,
) -> Vec<Finding> {
    let program = name.to_lowercase();
    let sockets = match sockets {
        Ok(sockets) => sockets,
        Err(reason) => return vec![Finding::broken(name, reason, silent)],
    };
    if sockets.is_empty() {
        let (detail, mend) = if is_installed(&program) {
            ("it is installed, and no service of it listens", silent)
        } else {
            ("it is not installed", absent)
        };
        return vec![Finding::lacking(name, detail.to_owned(), mend)];
    }
    let finding = |socket: &std::path::PathBuf| {
        let place = socket.display();
        let backend = match connect(socket) {
            Ok(backend) => backend,
            Err(error) => {
                let detail = error.to_string();
                let mend = if detail.contains("may not use") { refused } else { silent };
                return Finding::broken(name, detail, mend);
            }
        };
        let version =
            archive::version(socket).map_or(String::new(), |version| format!("{version} "));
        match attempt(&*backend) {
            Ok(took) => {
                let took = milliseconds(took);
                Finding::good(name, format!("{version}at {place}; a container ran in {took}"))
            }
            Err(error) => Finding::broken(
                name,
                format!("{version}at {place}: {error}"),
                &format!("{program} info"),
            ),
        }
    };
    sockets.iter().map(finding).collect()
}

fn open_networks() -> Finding {
    const NAME: &str = "open networks of the sandbox";
    if is_installed(WAY_OUTSIDE) {
        Finding::good(NAME, format!("{WAY_OUTSIDE} leads outside"))
    } else {
        let detail = format!("{WAY_OUTSIDE} is not installed");
        Finding::lacking(NAME, detail, &format!("apt install {WAY_OUTSIDE}"))
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

fn files() -> Finding {
    match getrlimit(Resource::Nofile).current {
        Some(most) if most < FEW_FILES => {
            Finding::lacking("open files", format!("{most} at most"), "ulimit -n 4096")
        }
        most => Finding::good(
            "open files",
            most.map_or("any number".to_owned(), |most| format!("{most} at most")),
        ),
    }
}

fn watches() -> Finding {
    let number = |name: &str| {
        let text = fs::read_to_string(Path::new("/proc/sys/fs/inotify").join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    match number("max_user_watches") {
        Some(most) if most >= FEW_WATCHES => {
            Finding::good("watched files", format!("{most} at most"))
        }
        Some(most) => {
            let mend = "sysctl fs.inotify.max_user_watches=524288";
            Finding::lacking("watched files", format!("{most} at most"), mend)
        }
        None => Finding::lacking("watched files", "the kernel has no inotify".to_owned(), "--poll"),
    }
}

/// Runs a program that does nothing in a container of this machine's own folders.
fn attempt(backend: &dyn Backend) -> Result<Duration, BackendError> {
    let image = backend.image("host")?.unwrap_or(Image::Host(String::new()));
    let began = Instant::now();
    let action = Action::of_steps(backend.kind(), image, LIMIT, &[&["true"]]);
    let outcome = backend.run(&action, &Cancel::default())?;
    let took = began.elapsed();
    backend.finish()?;
    match &outcome.steps[0].ended {
        Ended::Code(0) => Ok(took),
        other => Err(BackendError::Engine {
            engine: backend.kind().name().to_owned(),
            operation: "run `true`".to_owned(),
            reason: format!("{other:?}"),
        }),
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

impl Finding {
    fn good(name: &str, detail: String) -> Finding {
        Finding { name: name.to_owned(), state: Health::Good, detail, mend: None }
    }

    fn lacking(name: &str, detail: String, mend: &str) -> Finding {
        let (name, mend) = (name.to_owned(), Some(mend.to_owned()));
        Finding { name, state: Health::Lacking, detail, mend }
    }

    fn broken(name: &str, detail: String, mend: &str) -> Finding {
        Finding { state: Health::Broken, ..Finding::lacking(name, detail, mend) }
    }
}
