//! Limits of a container by control groups, version 1 or 2, where this user may make some.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::action::Limits;

/// The folder for ours in every hierarchy.
const OURS: &str = "clnrm";
/// How many processes a container may have whose test does not say.
const PROCESSES: u32 = 4096;
/// The period over which time is counted, in microseconds: the kernel's own.
const PERIOD: u64 = 100_000;

/// The control groups of a container; removed with this, once it is empty.
pub(super) struct Cgroup {
    /// Each with where it is seen inside.
    groups: Vec<(PathBuf, &'static str)>,
    /// How many processes the kernel has to be told to allow, as no group does.
    pub(super) processes: Option<u32>,
    /// What of the limits asked for is not held.
    pub(super) missing: Vec<&'static str>,
}

/// A limit in both versions: the controller, its name for people, the files and their values.
struct Limit {
    controller: &'static str,
    name: &'static str,
    old: Vec<(&'static str, String)>,
    new: Vec<(&'static str, String)>,
    /// Whether the test asks for it.
    asked: bool,
}

impl Cgroup {
    /// Makes what holds these limits, as far as this user may.
    pub(super) fn make(limits: &Limits) -> Cgroup {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut cgroup = Cgroup { groups: Vec::new(), processes: None, missing: Vec::new() };
        for limit in wanted(limits) {
            let held = cgroup.hold(&limit, &mounts, &name).is_ok();
            match limit.controller {
                _ if held || !limit.asked => {}
                // Those of a user are counted for each user namespace.
                "pids" if !rustix::process::geteuid().is_root() => cgroup.processes = limits.pids,
                _ => cgroup.missing.push(limit.name),
            }
        }
        cgroup
    }

    fn hold(&mut self, limit: &Limit, mounts: &str, name: &str) -> io::Result<()> {
        let (group, inside, files) = if let Some(root) = old_hierarchy(mounts, limit.controller) {
            let inside = match limit.controller {
                "memory" => "/sys/fs/cgroup/memory",
                "pids" => "/sys/fs/cgroup/pids",
                _ => "/sys/fs/cgroup/cpu",
            };
            (root.join(OURS).join(name), inside, &limit.old)
        } else {
            let root = new_hierarchy(mounts).ok_or(io::ErrorKind::NotFound)?;
            let enable = format!("+{}", limit.controller);
            fs::create_dir_all(root.join(OURS))?;
            for folder in [root.clone(), root.join(OURS)] {
                fs::write(folder.join("cgroup.subtree_control"), &enable)?;
            }
            (root.join(OURS).join(name), "/sys/fs/cgroup", &limit.new)
        };
        if !self.groups.iter().any(|(made, _)| *made == group) {
            fs::create_dir_all(&group)?;
            self.groups.push((group.clone(), inside));
        }
        files.iter().try_for_each(|(file, value)| fs::write(group.join(file), value))
    }

    /// Takes a process in, with all it starts from now on.
    pub(super) fn take(&self, process: u32) -> io::Result<()> {
        let mut files = self.groups.iter().map(|(group, _)| group.join("cgroup.procs"));
        let taken = files.try_for_each(|file| fs::write(file, process.to_string()));
        taken.map_err(|error| io::Error::new(error.kind(), format!("set limits: {error}")))
    }

    /// The folders, and where they are seen inside.
    pub(super) fn seen(&self) -> impl Iterator<Item = (&Path, &'static str)> {
        self.groups.iter().map(|(group, inside)| (group.as_path(), *inside))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for (group, _) in &self.groups {
            // One that still has processes stays; the kernel is about to end them.
            let _ = fs::remove_dir(group);
        }
    }
}

/// Removes control groups of processes that were killed; gives them.
pub(crate) fn sweep() -> Vec<PathBuf> {
    let mut removed = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let roots = ["memory", "pids", "cpu"].map(|controller| old_hierarchy(&mounts, controller));
    for root in roots.into_iter().flatten().chain(new_hierarchy(&mounts)) {
        for group in fs::read_dir(root.join(OURS)).into_iter().flatten().flatten() {
            let name = group.file_name();
            let owner = name.to_str().and_then(|name| name.split_once('-')).map(|(pid, _)| pid);
            let gone = owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists());
            if gone && fs::remove_dir(group.path()).is_ok() {
                removed.push(group.path());
            }
        }
    }
    removed
}

fn wanted(limits: &Limits) -> Vec<Limit> {
    let Limits { cpu_millicores, memory_mb, pids } = limits;
    let mut wanted = vec![Limit {
        controller: "pids",
        name: "processes",
        old: vec![("pids.max", pids.unwrap_or(PROCESSES).to_string())],
        new: vec![("pids.max", pids.unwrap_or(PROCESSES).to_string())],
        asked: pids.is_some(),
    }];
    if let Some(megabytes) = memory_mb {
        let bytes = megabytes.saturating_mul(1 << 20).to_string();
        wanted.push(Limit {
            controller: "memory",
            name: "memory",
            // Nothing may be put elsewhere instead.
            old: vec![("memory.limit_in_bytes", bytes.clone()), ("memory.swappiness", "0".into())],
            new: vec![("memory.max", bytes), ("memory.swap.max", "0".into())],
            asked: true,
        });
    }
    if let Some(millicores) = cpu_millicores {
        let quota = u64::from(*millicores) * PERIOD / 1000;
        wanted.push(Limit {
            controller: "cpu",
            name: "CPU time",
            old: vec![
                ("cpu.cfs_period_us", PERIOD.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ],
            new: vec![("cpu.max", format!("{quota} {PERIOD}"))],
            asked: true,
        });
    }
    wanted
}

/// Where version 1 has a controller.
fn old_hierarchy(mounts: &str, controller: &str) -> Option<PathBuf> {
    mount(mounts, |kind, options| kind == "cgroup" && options.split(',').any(|o| o == controller))
}

/// Where version 2 is.
fn new_hierarchy(mounts: &str) -> Option<PathBuf> {
    mount(mounts, |kind, _| kind == "cgroup2")
}

fn mount(mounts: &str, fits: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        fits(kind, options).then(|| PathBuf::from(place))
    })
}
