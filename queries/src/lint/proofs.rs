//! A test proves something.

use crate::diagnostic::{At, Problem};
use crate::model::Test;

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    if test.expectations.is_empty() && !test.scenarios.is_empty() {
        let at = test.name_path.clone().map_or(At::File, At::Key);
        let message = "the test expects no spans: it proves no more than exit codes and output do";
        let problem = Problem::warning("lint/no-expectation", at, message);
        problems.push(problem.hint("`clnrm gen expect-span` prints one to begin with"));
    }
}
