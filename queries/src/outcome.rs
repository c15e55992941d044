//! What came of a scenario's run, as far as it is known.

use std::collections::BTreeMap;

use clnrm_backends::{Action, ActionKey, BackendError, Outcome};
use clnrm_engine::{Cx, Digest, Query, Unit};
use serde::{Deserialize, Serialize};

use crate::diagnostic::Problem;
use crate::plan::PLAN;

/// What came of a scenario; the unit's part is its index.
pub(crate) static OUTCOME: Query<Run> = Query::new("outcome", 4, outcome);

/// A scenario's run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Run {
    /// It cannot be run at all.
    Unplanned(Vec<Problem>),
    /// It has to be run.
    Pending(ActionKey),
    /// The engine failed.
    Failed(ActionKey, BackendError),
    /// It ran.
    Ran(ActionKey, Box<Outcome>),
}

/// What an effect's value holds first; the parts of its action follow. See [`encode`].
type Stored = Result<Outcome, BackendError>;

fn outcome(cx: &Cx<'_>, unit: &Unit) -> Run {
    let plan = cx.get(&PLAN, unit);
    let action = match plan.as_ref() {
        Ok(action) => action,
        Err(problems) => return Run::Unplanned(problems.clone()),
    };
    let key = action.key();
    let stored =
        cx.effect(Digest(key.0)).and_then(|bytes| decode(&bytes).map(|(stored, _)| stored));
    match stored {
        Some(Ok(outcome)) if outcome.settled >= action.settle => Run::Ran(key, Box::new(outcome)),
        Some(Err(error)) => Run::Failed(key, error),
        // Its services were stopped before they could export what is judged now.
        Some(Ok(_)) | None => Run::Pending(key),
    }
}

/// The bytes under which a run's result is remembered, with the parts of what was run.
pub fn encode(action: &Action, result: &Result<Outcome, BackendError>) -> Vec<u8> {
    postcard::to_stdvec(&(result, action.parts())).expect("outcomes are plain data")
}

/// The result that these bytes hold; see [`encode`].
pub fn stored(bytes: &[u8]) -> Option<Result<Outcome, BackendError>> {
    decode(bytes).map(|(stored, _)| stored)
}

/// The parts of the action whose result these bytes hold; see [`Action::parts`].
pub fn parts(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    postcard::from_bytes(decode(bytes)?.1).ok()
}

fn decode(bytes: &[u8]) -> Option<(Stored, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}
