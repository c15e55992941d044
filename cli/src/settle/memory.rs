//! As many runs at once as there is memory for, by what their tests say they may use.

use std::fs;
use std::sync::{Condvar, Mutex};

use clnrm_backends::Action;

/// The memory that runs at once may use together, in MiB.
pub(super) struct Memory {
    free: Mutex<u64>,
    freed: Condvar,
    all: u64,
}

/// A part of the memory, until it is dropped.
pub(super) struct Share<'a> {
    memory: &'a Memory,
    megabytes: u64,
}

impl Memory {
    /// What is available on this machine, and to this control group.
    pub(super) fn available() -> Memory {
        Memory::of(available().unwrap_or(u64::MAX))
    }

    fn of(megabytes: u64) -> Memory {
        Memory { free: Mutex::new(megabytes), freed: Condvar::new(), all: megabytes }
    }

    /// Waits until there is as much free as the containers of `action` may use; one that may use
    /// more than there is runs alone.
    pub(super) fn take(&self, action: &Action) -> Share<'_> {
        let each = action.limits.memory_mb.unwrap_or(0);
        let megabytes = each.saturating_mul(action.services.len() as u64).min(self.all);
        let mut free = self.free.lock().expect("no holder panics");
        while *free < megabytes {
            free = self.freed.wait(free).expect("no holder panics");
        }
        *free -= megabytes;
        Share { memory: self, megabytes }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.memory.free.lock().expect("no holder panics") += self.megabytes;
        self.memory.freed.notify_all();
    }
}

/// In MiB; `None` when the kernel does not say.
fn available() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? >> 10;
    // As a process in a container sees its own group; `max` is no number.
    let group = |file: &str| {
        let bytes = fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?;
        Some(bytes.trim().parse::<u64>().ok()? >> 20)
    };
    let groups = ["memory.max", "memory/memory.limit_in_bytes"].into_iter().filter_map(group);
    groups.chain([machine]).min()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use clnrm_backends::{BackendKind, Image};

    use super::*;

    fn needing(megabytes: u64) -> Action {
        let image = Image::Host(String::new());
        let mut action = Action::of_steps(BackendKind::Fake, image, Duration::ZERO, &[]);
        action.limits.memory_mb = Some(megabytes);
        action
    }

    #[test]
    fn no_more_runs_at_once_than_fit() {
        let memory = Memory::of(100);
        let (used, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            // The last one wants more than there is.
            for megabytes in [40, 40, 40, 40, 1000] {
                let (memory, used, most) = (&memory, &used, &most);
                scope.spawn(move || {
                    let share = memory.take(&needing(megabytes));
                    let now = used.fetch_add(share.megabytes, Ordering::SeqCst) + share.megabytes;
                    most.fetch_max(now, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(20));
                    used.fetch_sub(share.megabytes, Ordering::SeqCst);
                });
            }
        });
        assert!(most.into_inner() <= 100);
        assert_eq!(*memory.free.lock().unwrap(), 100);
    }

    #[test]
    fn this_machine_has_some() {
        assert!(available().is_some_and(|megabytes| megabytes > 0));
    }
}
