//! How long services get to export their spans before they are stopped.

use std::time::Duration;

use clnrm_backends::{Limits, ServicePlan, StepPlan};

use crate::expectation::Expectation;
use crate::model::{Scenario, Test};

/// Several times the delay that a run sets for batch processors: long enough for SDKs on an idle
/// machine (`docs/format.md` has the measurements).
const LEAST: Duration = Duration::from_millis(40);
/// A container that has used up its share of the processor waits this long for the next.
const PERIOD: Duration = Duration::from_millis(100);
/// The delay of a batch processor, by which services may have another.
const DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";

/// How long the services of a run have at least, after its last step; zero where no expectation
/// looks at what they export.
pub(super) fn settle(
    test: &Test,
    scenario: &Scenario,
    wanted: Option<Duration>,
    services: &[ServicePlan],
    steps: &[StepPlan],
) -> Duration {
    if !is_judged(test, scenario) {
        return Duration::ZERO;
    }
    let environments = services.iter().map(|it| &it.env).chain(steps.iter().map(|it| &it.env));
    let delays = environments.filter_map(|env| env.get(DELAY)?.trim().parse().ok());
    let delay = delays.map(Duration::from_millis).max().unwrap_or_default();
    wanted.unwrap_or(LEAST + delay + throttled(&test.limits))
}

/// Whether an expectation looks at the spans of `scenario`.
fn is_judged(test: &Test, scenario: &Scenario) -> bool {
    let index = test.scenarios.iter().position(|other| other.path == scenario.path);
    test.expectations.iter().any(|placed| {
        let here = placed.scenario.is_none() || placed.scenario == index;
        here && !matches!(placed.expectation, Expectation::Assertion(_))
    })
}

fn throttled(limits: &Limits) -> Duration {
    if limits.cpu_millicores.is_some() { PERIOD } else { Duration::ZERO }
}
