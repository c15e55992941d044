//! Style and risk: what a sound test had better not say.

mod contradictions;
mod images;
mod proofs;
mod secrets;
mod variables;
mod version;

use clnrm_engine::{Cx, Query, Unit};

use crate::diagnostic::Problem;
use crate::model::{MODEL, Test};
use crate::report::{CHECK, Check, Locator};

/// What the shape check and the rules of style and risk say of a file: the root of `lint`.
pub static LINT: Query<Check> = Query::new("lint", 2, lint).kept();

/// A rule looks at a test and says what it had better not say.
type Rule = fn(&Test, &mut Vec<Problem>);

const RULES: [Rule; 5] =
    [version::check, images::check, secrets::check, proofs::check, contradictions::check];

fn lint(cx: &Cx<'_>, unit: &Unit) -> Check {
    let mut check = cx.get(&CHECK, unit).as_ref().clone();
    let model = cx.get(&MODEL, unit);
    let Ok(test) = model.as_ref() else { return check };
    let mut problems = Vec::new();
    for rule in RULES {
        rule(test, &mut problems);
    }
    variables::check(cx, unit, &mut problems);
    let locator = Locator::new(cx, unit);
    check.diagnostics.extend(locator.diagnostics(&problems));
    check.diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    check.glance.worst = check.diagnostics.iter().map(|diagnostic| diagnostic.severity).max();
    check
}
