//! Splits tests among machines.

use std::time::Duration;

use clnrm_engine::{Digest, Engine, Unit};
use clnrm_queries::{REPORT, ReportGlance};

use crate::args::{Shard, ShardBy};
use crate::printer;

/// What a test is taken to last that was never run.
const UNKNOWN: Duration = Duration::from_millis(100);

/// Those of `units`, which are sorted, that are in the shard. The same tests and, by duration, the
/// same store split in the same way everywhere.
pub(crate) fn shard(engine: &mut Engine, units: Vec<Unit>, shard: Shard, by: ShardBy) -> Vec<Unit> {
    let parts = match by {
        ShardBy::Count => (0..units.len()).map(|at| at % shard.of).collect(),
        ShardBy::Duration => {
            let lasted = |last: &[u8]| Some(ReportGlance::decode(last)?.0.duration);
            let lasted = engine.last(&REPORT, &units, lasted);
            balanced(&lasted, shard.of)
        }
    };
    if by == ShardBy::Duration {
        let lines = units.iter().zip(&parts).map(|(unit, part)| format!("{unit}\n{part}\n"));
        let split = Digest::of("clnrm 2026-11 shards", lines.collect::<String>().as_bytes());
        printer::talk(&format!("shards by duration: split {}", &split.to_string()[..8]));
    }
    let own = units.into_iter().zip(parts).filter(|(_, part)| *part == shard.number - 1);
    own.map(|(unit, _)| unit).collect()
}

/// The longest first, each to the part with the least to do (Graham's LPT rule, 1969).
fn balanced(lasted: &[Option<Duration>], parts: usize) -> Vec<usize> {
    let lasts = |at: &usize| lasted[*at].unwrap_or(UNKNOWN);
    let mut order: Vec<usize> = (0..lasted.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(lasts(at)));
    let mut load = vec![Duration::ZERO; parts];
    let mut part_of = vec![0; lasted.len()];
    for at in order {
        let least = (0..parts).min_by_key(|part| load[*part]).expect("there is a part");
        load[least] += lasts(&at);
        part_of[at] = least;
    }
    part_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_take_about_as_long() {
        let seconds = |n| Some(Duration::from_secs(n));
        let lasted = [seconds(5), seconds(1), None, seconds(4), seconds(3), seconds(3)];
        let parts = balanced(&lasted, 2);
        let load = |part: usize| -> Duration {
            let own = lasted.iter().zip(&parts).filter(|(_, of)| **of == part);
            own.map(|(lasted, _)| lasted.unwrap_or(UNKNOWN)).sum()
        };
        assert_eq!(load(0) + load(1), Duration::from_millis(16_100));
        assert!(load(0).abs_diff(load(1)) <= Duration::from_secs(1), "{parts:?}");
    }
}
