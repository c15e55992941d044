//! Values of roots: those that were recalled and are all right stay as they are stored.

use std::sync::Arc;

use clnrm_engine::{Bug, Encoded, Engine, Unit};
use clnrm_queries::{CHECK, Check, CheckGlance, Report, Severity};

/// A root's value.
#[derive(Clone)]
pub(crate) enum Known<V> {
    /// It was recalled, and there is nothing to say against it.
    Green {
        encoded: Encoded,
        /// How many it has.
        scenarios: usize,
    },
    /// It was recalled, and there is something to say of it, short of an error.
    Recalled(Encoded),
    /// It was asked for.
    Told(Arc<V>),
}

const SOUND: &str = "the store has what this very program encoded";

impl Known<Check> {
    pub(crate) fn view(&self) -> Check<&str> {
        match self {
            Known::Green { encoded, .. } | Known::Recalled(encoded) => {
                Check::decode(encoded).expect(SOUND)
            }
            Known::Told(check) => check.view(),
        }
    }
}

impl Known<Report> {
    pub(crate) fn view(&self) -> Report<&str> {
        match self {
            Known::Green { encoded, .. } | Known::Recalled(encoded) => {
                Report::decode(encoded).expect(SOUND)
            }
            Known::Told(report) => report.view(),
        }
    }
}

/// The checks of units.
pub(crate) fn checks(engine: &mut Engine, units: &[Unit]) -> Vec<Result<Known<Check>, Bug>> {
    let known = |encoded: Encoded| {
        let CheckGlance { scenarios, worst, .. } = CheckGlance::decode(&encoded)?;
        Some(match worst {
            None => Known::Green { encoded, scenarios },
            Some(Severity::Error) => Known::Told(Arc::new(Check::decode(&encoded)?)),
            Some(_) => Known::Recalled(encoded),
        })
    };
    let recalled = engine.recall(&CHECK, units).into_iter();
    let mut checks: Vec<Option<Result<Known<Check>, Bug>>> =
        recalled.map(|encoded| encoded.and_then(known).map(Ok)).collect();
    let open: Vec<usize> = (0..units.len()).filter(|at| checks[*at].is_none()).collect();
    if !open.is_empty() {
        let open_units: Vec<Unit> = open.iter().map(|at| units[*at].clone()).collect();
        let told = engine.demand(&CHECK, &open_units);
        for (at, check) in open.into_iter().zip(told) {
            checks[at] = Some(check.map(Known::Told));
        }
    }
    checks.into_iter().map(|check| check.expect("every open unit was asked for")).collect()
}
