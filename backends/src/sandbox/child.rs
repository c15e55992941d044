//! The life of a container's first processes: `__sandbox` makes the namespaces and the root, its
//! child is process 1 in them.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::Mode;
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType};

use super::{Spec, SpecImage, SpecNetwork, network, root, slirp};
use crate::agent::{self, sys};
use crate::image::User;
use crate::syscalls;

/// The argument that asks for [`sandbox_main`].
const WORD: &str = "__sandbox";
/// The argument that asks for a program in a container that is up.
pub(crate) const ENTER_WORD: &str = "__sandbox-enter";
/// Open files a process may have, where this machine allows as many.
const MOST_FILES: u64 = 65_536;

/// Becomes a container if the program was started as one; call it before anything else.
///
/// Does not return then.
pub fn sandbox_main() {
    let mut arguments = std::env::args_os().skip(1);
    let Some(word) = arguments.next() else { return };
    let result = if word == WORD {
        outside()
    } else if word == ENTER_WORD {
        enter(arguments)
    } else if word == slirp::WORD {
        slirp::become_it(arguments)
    } else {
        return;
    };
    if let Err(reason) = result {
        eprintln!("{reason}");
    }
    std::process::exit(125);
}

/// Makes namespaces and root, starts process 1 and waits for its end.
fn outside() -> Result<(), String> {
    // Whatever else the caller had open is none of a container's business.
    agent::keep_only_standard_streams();
    let spec = read_spec()?;
    match spec.join {
        Some(pid) => enter_cell(pid, "user", LinkNameSpaceType::User)?,
        None => {
            attempt("make a user namespace", unshare(CloneFlags::CLONE_NEWUSER))
                .map_err(with_userns_hint)?;
            attempt("ask for ids", std::io::stdout().write_all(b"\n"))?;
            attempt("ask for ids", std::io::stdout().flush())?;
            attempt("get ids", std::io::stdin().read_exact(&mut [0]))?;
        }
    }
    let own_network = !matches!(spec.network, SpecNetwork::Joined);
    match (own_network, spec.join) {
        (false, Some(pid)) => enter_cell(pid, "net", LinkNameSpaceType::Network)?,
        _ => attempt("make a network", unshare(CloneFlags::CLONE_NEWNET))?,
    }
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    attempt("make namespaces", unshare(flags))?;
    if own_network {
        attempt("bring up the loopback", network::up())?;
        if let SpecNetwork::Linked(others) = &spec.network {
            attempt("link the services", network::link(others))?;
        }
        // As in containers: any port may be listened on.
        let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    }
    attempt("name the host", rustix::system::sethostname(spec.hostname.as_bytes()))?;
    let limited = || attempt("get limits", std::io::stdin().read_exact(&mut [0]));
    // What is copied into the container is of its memory.
    let copies = spec.mounts.iter().any(|mount| !mount.read_only && mount.source.is_file());
    if copies {
        limited()?;
    }
    let new_root = root::build(&spec)?;
    attempt("enter the new root", std::env::set_current_dir(&new_root))?;
    let image = spec.image.unwrap_or_else(SpecImage::host);
    // It is in its control groups by then, and with it all that it starts.
    if !copies {
        limited()?;
    }
    attempt("make a namespace", unshare(CloneFlags::CLONE_NEWCGROUP))?;
    // No thread was started so far.
    match attempt("start process 1", sys::fork())? {
        None => {
            sys::set_environment(image.environment());
            inside(&image, own_network, spec.processes, spec.huge_pages)
        }
        Some(child) => {
            let status = sys::wait_for(child).ok_or("process 1 is not ours to wait for")?;
            std::process::exit(sys::ended(status).unwrap_or(125));
        }
    }
}

/// Runs a program beside process 1 of a container, with no more rights than that has.
fn enter(mut arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let pid = arguments.next().and_then(|pid| pid.into_string().ok()).unwrap_or_default();
    let kinds = [
        ("user", LinkNameSpaceType::User),
        ("net", LinkNameSpaceType::Network),
        ("ipc", LinkNameSpaceType::InterProcessCommunication),
        ("uts", LinkNameSpaceType::HostNameAndNISDomainName),
        ("cgroup", LinkNameSpaceType::ControlGroup),
        ("pid", LinkNameSpaceType::ProcessID),
        ("mnt", LinkNameSpaceType::Mount),
    ];
    // All of them first: the last one hides the rest.
    let open = |(name, kind)| {
        let file = attempt("find the container", File::open(format!("/proc/{pid}/ns/{name}")))?;
        Ok((file, kind))
    };
    let spaces = kinds.into_iter().map(open).collect::<Result<Vec<_>, String>>()?;
    for (file, kind) in &spaces {
        let entered = rustix::thread::move_into_link_name_space(file.as_fd(), Some(*kind));
        attempt("enter the container", entered)?;
    }
    drop(spaces);
    set_limits(None)?;
    give_up_privileges()?;
    restrict()?;
    let mut command = Command::new(arguments.next().ok_or("there is no program to start")?);
    // The environment is the container's: whoever enters is started with that.
    command.args(arguments);
    let status = attempt("start the program", command.status())?;
    std::process::exit(status.code().unwrap_or(125));
}

/// Process 1: makes the new root the only one, gives up all privileges and serves; with `listen`, it
/// takes OTLP.
fn inside(
    image: &SpecImage,
    listen: bool,
    processes: Option<u32>,
    huge_pages: bool,
) -> Result<(), String> {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    attempt("mount /proc", mount("proc", "proc", "proc", flags, None))?;
    for part in ["bus", "fs", "irq", "sys", "sysrq-trigger"] {
        protect_kernel(&Path::new("proc").join(part))?;
    }
    attempt("change the root", rustix::process::pivot_root(".", "."))?;
    attempt("leave the old root", unmount(".", UnmountFlags::DETACH))?;
    attempt("enter the new root", std::env::set_current_dir("/"))?;
    attempt("start a session", rustix::process::setsid())?;
    set_limits(processes)?;
    let workdir = if image.workdir.is_empty() { "/" } else { &image.workdir };
    attempt("make the image's working directory", std::fs::create_dir_all(workdir))?;
    attempt("enter the image's working directory", std::env::set_current_dir(workdir))?;
    become_user(&image.user)?;
    // It went without them only to be here sooner.
    let _ = rustix::thread::disable_transparent_huge_pages(!huge_pages);
    give_up_privileges()?;
    restrict()?;
    agent::serve(Path::new(agent::FOLDER), listen)
}

/// Makes a part of `/proc` that belongs to the whole machine read-only: some of it asks for the
/// user's id only, not for capabilities.
fn protect_kernel(part: &Path) -> Result<(), String> {
    use rustix::mount::{MountFlags, mount_bind, mount_remount};
    if !part.exists() {
        return Ok(());
    }
    attempt("protect /proc", mount_bind(part, part))?;
    let flags = MountFlags::BIND
        | MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC;
    attempt("protect /proc", mount_remount(part, flags, ""))
}

/// What every run starts with, whoever starts it.
fn set_limits(processes: Option<u32>) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
    umask(Mode::from_raw_mode(0o022));
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    attempt("set limits", setrlimit(Resource::Core, none))?;
    let most = getrlimit(Resource::Nofile).maximum.map_or(MOST_FILES, |hard| hard.min(MOST_FILES));
    let files = Rlimit { current: Some(most), maximum: Some(most) };
    attempt("set limits", setrlimit(Resource::Nofile, files))?;
    let Some(most) = processes.map(u64::from) else { return Ok(()) };
    let most = Rlimit { current: Some(most), maximum: Some(most) };
    attempt("set limits", setrlimit(Resource::Nproc, most))
}

fn read_spec() -> Result<Spec, String> {
    // Byte by byte: what follows the line is somebody else's to read.
    let mut line = Vec::new();
    let mut byte = [0];
    while attempt("read the specification", std::io::stdin().read(&mut byte))? == 1 {
        if byte == *b"\n" {
            break;
        }
        line.extend(byte);
    }
    attempt("read the specification", serde_json::from_slice(&line))
}

/// Enters a namespace of the cell's first container.
fn enter_cell(pid: u32, name: &str, kind: LinkNameSpaceType) -> Result<(), String> {
    let file = attempt("find the cell", File::open(format!("/proc/{pid}/ns/{name}")))?;
    let joined = rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind));
    attempt("join the cell", joined)
}

/// Becomes the user an image runs as, where this user namespace has others than its maker.
fn become_user(user: &User) -> Result<(), String> {
    use rustix::process::{Gid, Uid};
    let ids = attempt("see the ids", std::fs::read_to_string("/proc/self/uid_map"))?;
    if !has_others(&ids) {
        return Ok(());
    }
    let (id, group) = (Uid::from_raw(user.id), Gid::from_raw(user.group));
    attempt("leave all groups", rustix::thread::set_thread_groups(&[]))?;
    attempt("take the group", rustix::thread::set_thread_res_gid(group, group, group))?;
    // Kept until they are given up on purpose: what is left to do needs them.
    attempt("keep capabilities", rustix::thread::set_keep_capabilities(true))?;
    attempt("become the user", rustix::thread::set_thread_res_uid(id, id, id))?;
    let held = attempt("see capabilities", rustix::thread::capabilities(None))?;
    let again = CapabilitySets { effective: held.permitted, ..held };
    attempt("take capabilities up", rustix::thread::set_capabilities(None, again))
}

/// Whether a map of ids has more than one.
fn has_others(map: &str) -> bool {
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    counts.sum::<u64>() > 1
}

/// No capabilities, now or by any program started later.
fn give_up_privileges() -> Result<(), String> {
    for capability in CapabilitySet::all().iter() {
        // Kernels know fewer than we do; those they do not know cannot be held.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let _ = rustix::thread::clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    attempt("give up capabilities", rustix::thread::set_capabilities(None, sets))?;
    attempt("refuse new privileges", rustix::thread::set_no_new_privs(true))
}

/// No system calls but those of the list; needs that no new privileges can be had.
fn restrict() -> Result<(), String> {
    let filter = syscalls::FILTER.as_ref().ok_or("no filter for calls on this architecture")?;
    attempt("filter system calls", sys::filter_calls(filter))
}

fn attempt<T, E: Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

fn with_userns_hint(reason: String) -> String {
    let restricted = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    let fix = match std::fs::read_to_string(restricted) {
        Ok(value) if value.trim() == "1" => {
            "; AppArmor keeps user namespaces from unprivileged programs: \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows them"
        }
        _ => "",
    };
    reason + fix
}
