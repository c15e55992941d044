//! Waits until the telemetry of a run has settled: its services have exported the spans of what its
//! steps did.
//!
//! A batch processor exports after a delay, and a program without a signal handler ends with
//! SIGTERM at once. Services that are stopped right after the last step lose their last spans.

use std::time::{Duration, Instant};

use crate::otlp::Inbox;

/// How often a run looks whether its telemetry has settled.
const TICK: Duration = Duration::from_millis(5);
/// How long no spans have come in when it has.
const QUIET: Duration = Duration::from_millis(20);
/// How long a run waits at most, unless it is asked for more.
const LONGEST: Duration = Duration::from_secs(2);
/// So many times the least time is the most.
const MOST: u32 = 4;

/// How settling ended.
#[derive(Debug, PartialEq)]
pub(super) enum Settled {
    /// Services had their time, and nothing was on its way any more.
    Quiet,
    /// Services had their time and went on exporting until the longest wait was over.
    Busy,
    /// The machine was so loaded that services may not have had their time.
    Loaded,
}

/// Waits until services had `least` of the machine's time since now, no export is under way and
/// none has ended a moment ago; until `deadline` at most.
///
/// Time in which the machine was busy with others counts less: what a timer overran does not count,
/// and where more tasks can run than there are cores, each tick counts in that proportion.
pub(super) async fn settle(inbox: &Inbox, least: Duration, deadline: Instant) -> Settled {
    let longest = LONGEST.max(least.saturating_mul(MOST));
    let until = deadline.min(Instant::now() + longest);
    let quiet = QUIET.min(least);
    let mut had = Duration::ZERO;
    loop {
        let enough = had >= least;
        if enough && inbox.is_quiet(quiet) {
            return Settled::Quiet;
        }
        let now = Instant::now();
        if now >= until {
            return if enough { Settled::Busy } else { Settled::Loaded };
        }
        // Nothing announces that a batch processor has no more spans, so the run looks again.
        tokio::time::sleep(TICK).await;
        had += now.elapsed().min(TICK).mul_f64(share());
    }
}

/// Which part of the time a task gets that can run: all of it, unless more can run than there are
/// cores.
fn share() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let runnable = load.split(' ').nth(3).and_then(|tasks| tasks.split('/').next()?.parse().ok());
    (cores as f64 / runnable.unwrap_or(1.0_f64).max(1.0)).min(1.0)
}
