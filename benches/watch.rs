//! Watches one process from start to exit, from a process that does nothing else: what the kernel
//! then tells of finished children is of that one alone.

use std::env;
use std::io::{self, Read};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// The first argument by which a bench becomes a watcher.
const WORD: &str = "watch-one-process";

/// What became of one process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) exit: Option<i32>,
    /// From its start until it has ended.
    pub(crate) wall: Duration,
    /// User and system time of all its threads.
    pub(crate) cpu: Duration,
    /// From its start until its first output; zero where nobody read it.
    pub(crate) first_output: Duration,
    /// From its start until its last output: by then, all it says is known.
    pub(crate) last_output: Duration,
    pub(crate) output_bytes: u64,
    /// The most memory it held; no less than the watcher's own, two or three megabytes.
    pub(crate) peak_bytes: u64,
}

/// Where the output of a watched process goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Output {
    /// To `/dev/null`.
    Dropped,
    /// Through a pipe to somebody who notes the times.
    Read,
}

/// Runs `command` under a watcher; it gets nothing to read, and its complaints are in the panic
/// when it cannot be watched.
pub(crate) fn watch(command: &Command, output: Output) -> (Sample, String) {
    let mut watcher = Command::new(env::current_exe().expect("a bench has a file"));
    watcher.args([WORD, if output == Output::Read { "read" } else { "drop" }]);
    watcher.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        watcher.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => watcher.env(name, value),
            None => watcher.env_remove(name),
        };
    }
    let told = watcher.stdin(Stdio::null()).output().expect("a bench can start itself");
    let complaints = String::from_utf8_lossy(&told.stderr).into_owned();
    let sample = serde_json::from_slice(&told.stdout);
    (sample.unwrap_or_else(|_| panic!("{command:?} was not watched: {complaints}")), complaints)
}

/// Does a watcher's work, if this process was started as one.
pub(crate) fn if_asked() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    if arguments.next()? != WORD {
        return None;
    }
    let read = arguments.next()? == "read";
    let mut command = Command::new(arguments.next()?);
    command.args(arguments).stdout(if read { Stdio::piped() } else { Stdio::null() });
    let sample = sample(&mut command).expect("the program can be started");
    println!("{}", serde_json::to_string(&sample).expect("a sample is plain data"));
    Some(ExitCode::SUCCESS)
}

fn sample(command: &mut Command) -> io::Result<Sample> {
    let (mut first_output, mut last_output) = (Duration::ZERO, Duration::ZERO);
    let mut output_bytes = 0;
    let began = Instant::now();
    let mut child = command.spawn()?;
    if let Some(mut pipe) = child.stdout.take() {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = pipe.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            last_output = began.elapsed();
            if output_bytes == 0 {
                first_output = last_output;
            }
            output_bytes += read as u64;
        }
    }
    let exit = child.wait()?.code();
    let wall = began.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let times = [usage.user_time(), usage.system_time()];
    let micros = times.iter().map(|time| (time.tv_sec() * 1_000_000 + time.tv_usec()) as u64);
    Ok(Sample {
        exit,
        wall,
        cpu: Duration::from_micros(micros.sum()),
        first_output,
        last_output,
        output_bytes,
        peak_bytes: usage.max_rss() as u64 * 1024,
    })
}
