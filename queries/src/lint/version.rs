//! A test has a version.

use crate::diagnostic::{At, Fix, Problem};
use crate::model::Test;

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    let Some(path) = test.name_path.clone().filter(|_| !test.has_version) else { return };
    let problem =
        Problem::warning("lint/no-version", At::Key(path.clone()), "the test has no version");
    let line = "version = \"1.0.0\"";
    problems
        .push(problem.hint(format!("add `{line}`")).fix(Fix::InsertAfter(path, line.to_owned())));
}
