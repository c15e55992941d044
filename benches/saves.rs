//! From a save to its verdict, while clnrm watches: `cargo bench -p clnrm --bench saves`.
//!
//! Each edit is complete when the file is closed; the verdict is there when its line is. All tests of a
//! tree are run before, each by itself.

mod machine;
#[allow(dead_code, reason = "other benches use it")]
mod timing;
#[allow(dead_code, reason = "other benches use it")]
mod watch;

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::process::{Pid, Signal, kill_process};

const CLNRM: &str = env!("CARGO_BIN_EXE_clnrm");
const EDITS: usize = 50;
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

fn main() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    for line in machine::describe(folder.path()) {
        println!("- {line}");
    }
    println!("\n| tests | work | p50 ms | p95 ms | aim |\n|-|-|-|-|-|");
    for tests in [10, 1_000, 10_000] {
        let root = folder.path().join(tests.to_string());
        tree(&root, tests);
        measure(&root, tests, "sandbox", "30 / 60");
    }
    let podman = Path::new("/run/podman/podman.sock").exists();
    if podman {
        measure(&folder.path().join("10"), 10, "podman", "");
    } else {
        println!("\nNOT RUN: there is no Podman at /run/podman/podman.sock");
    }
    for tests in [10, 10_000] {
        watchexec(&folder.path().join(tests.to_string()), tests);
    }
}

/// From a save to the first output of the command that `watchexec` starts for it, at its defaults.
fn watchexec(root: &Path, tests: usize) {
    let mut command = Command::new("watchexec");
    command.args(["--quiet", "--postpone", "--", "echo", "started"]).current_dir(root);
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = started else {
        return println!("\nNOT RUN: watchexec is not installed");
    };
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    // It does not say when it watches.
    std::thread::sleep(Duration::from_secs(3));
    let starts = (0..EDITS).map(|number| {
        std::thread::sleep(Duration::from_millis(300));
        fs::write(root.join("f0/t0.clnrm.toml"), text(&format!("true {number}"), "clnrm.step:s"))
            .expect("it can be written");
        let began = Instant::now();
        lines.next().expect("it goes on").expect("it writes text");
        began.elapsed()
    });
    row(tests, "watchexec has started `echo`", starts.collect(), "");
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
    let _ = child.wait();
}

fn text(run: &str, expected: &str) -> String {
    format!(
        "[meta]\nname = \"t\"\nversion = \"1\"\n\n[[scenario]]\nname = \"s\"\nrun = \"{run}\"\n\n\
         [[expect.span]]\nname = \"{expected}\"\n"
    )
}

fn tree(root: &Path, tests: usize) {
    fs::create_dir_all(root).expect("it can be made");
    fs::write(root.join("clnrm.toml"), "").expect("it can be written");
    for number in 0..tests {
        let folder = root.join(format!("f{}", number / 100));
        fs::create_dir_all(&folder).expect("it can be made");
        let path = folder.join(format!("t{number}.clnrm.toml"));
        fs::write(path, text(&format!("true {number}"), "clnrm.step:s"))
            .expect("it can be written");
    }
}

/// A `clnrm watch` under way, ended when it is dropped.
struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(root: &Path, backend: &str) -> Watching {
        let mut child = Command::new(CLNRM)
            .args(["watch", "--format", "jsonl", "--backend", backend])
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut watching = Watching { child, lines };
        watching.line();
        watching
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it goes on").expect("it writes text")
    }

    /// Kilobytes of memory, and hundredths of a second of processor time.
    fn used(&self) -> (u64, u64) {
        let proc = Path::new("/proc").join(self.child.id().to_string());
        let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        let stat = fs::read_to_string(proc.join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
        (rss, ticks(11) + ticks(12))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // As Ctrl-C does: a store that was not closed is looked through by whoever comes next.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }
}

fn measure(root: &Path, tests: usize, backend: &str, aim: &str) {
    drop(Watching::start(root, backend));
    let began = Instant::now();
    let mut watching = Watching::start(root, backend);
    let start = began.elapsed();
    let file = root.join("f0/t0.clnrm.toml");
    let inotify = inotify::init(CreateFlags::CLOEXEC).expect("there may be one more");
    inotify::add_watch(&inotify, &file, WatchFlags::OPEN | WatchFlags::CLOSE_WRITE)
        .expect("it is there");
    let mut buffer = [MaybeUninit::uninit(); 512];
    let mut events = inotify::Reader::new(&inotify, &mut buffer);
    let mut reads = Vec::new();
    let mut edit = |watching: &mut Watching, text: String| {
        // The one before is written down.
        std::thread::sleep(Duration::from_millis(150));
        fs::write(&file, text).expect("it can be written");
        let began = Instant::now();
        opened(&inotify, &mut events);
        reads.push(began.elapsed());
        let line = watching.line();
        let took = began.elapsed();
        let is_verdict =
            ["passed", "failed"].iter().any(|it| line.contains(&format!("\"state\":\"{it}\"")));
        assert!(line.contains("t0.clnrm.toml") && is_verdict, "{line}");
        took
    };
    let runs = (0..EDITS).map(|number| {
        edit(&mut watching, text(&format!("true # {backend} {number}"), "clnrm.step:s"))
    });
    let runs: Vec<Duration> = runs.collect();
    let judged = (0..EDITS).map(|number| {
        let expected = if number % 2 == 0 { "clnrm.step:other" } else { "clnrm.step:s" };
        let last = EDITS - 1;
        edit(&mut watching, text(&format!("true # {backend} {last}"), expected))
    });
    let judged: Vec<Duration> = judged.collect();
    let with_service = |settle: &str, number: usize| {
        let service = "[services.s]\nargs = [\"sleep\", \"100\"]\n";
        let run = text(&format!("true # {settle} {number}"), "clnrm.step:s");
        run.replace("[[scenario]]", &format!("{service}[[scenario]]\nsettle = \"{settle}\""))
    };
    let settled = ["0s", "40ms"].map(|settle| {
        let runs = (0..EDITS).map(|number| edit(&mut watching, with_service(settle, number)));
        (settle, runs.collect::<Vec<Duration>>())
    });
    let first = format!("the first query, which reads the file, with {backend}");
    row(tests, &first, reads, if backend == "sandbox" { "2 / 4" } else { "" });
    row(tests, &format!("a run in {backend}"), runs, aim);
    for (settle, runs) in settled {
        let work = format!("a run in {backend} with a service that has {settle} to export");
        row(tests, &work, runs, "+ 60 ms");
    }
    let aim = if backend == "sandbox" { "15 / 30" } else { "" };
    row(tests, "an expectation, judged by what is known", judged, aim);
    // What was learned is written down first.
    std::thread::sleep(Duration::from_secs(2));
    let (_, before) = watching.used();
    std::thread::sleep(Duration::from_secs(2));
    let (rss, after) = watching.used();
    println!(
        "| {tests} | start to watching, all known | {:.0} | | 100 |",
        start.as_secs_f64() * 1000.0
    );
    println!(
        "| {tests} | memory {} MiB, idle {} ms of CPU in 2 s | | | 80 MB, 0 |",
        rss >> 10,
        (after - before) * 10
    );
}

/// Waits until a file that was written and closed is opened by somebody.
fn opened(inotify: &OwnedFd, events: &mut inotify::Reader<'_, &OwnedFd>) {
    let mut next = || {
        if events.is_buffer_empty() {
            let mut ready = [PollFd::new(inotify, PollFlags::IN)];
            let count = poll(&mut ready, Some(&PATIENCE)).expect("it can be waited for");
            assert!(count > 0, "nobody has read the file");
        }
        events.next().expect("it can be read").events()
    };
    for what in [ReadFlags::CLOSE_WRITE, ReadFlags::OPEN] {
        while !next().contains(what) {}
    }
}

fn row(tests: usize, work: &str, mut times: Vec<Duration>, aim: &str) {
    times.sort();
    let ms = |at: usize| times[at.min(times.len() - 1)].as_secs_f64() * 1000.0;
    let (p50, p95) = (ms(times.len() / 2), ms(times.len() * 95 / 100));
    println!("| {tests} | {work} | {p50:.1} | {p95:.1} | {aim} |");
}
