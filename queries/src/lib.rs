//! What clnrm means: from a file to a verdict, one query a stage.
//!
//! ```text
//! selection (which files)
//!
//! source → cells, rendered → document → model → shape → check
//!                   └→ formatted
//!                                  ├→ plan → outcome → traces ─┐
//!                                  └→ expectation ─────────────┴→ verdict → report
//! ```
//!
//! Each stage sees the world only through its context, and its value carries no more than the
//! next stages need: the document has no places, so an edited comment stops there; a plan has no
//! expectations, so an edited expectation starts no container.

#![deny(clippy::disallowed_methods)]

mod diagnostic;
mod dialect;
mod document;
mod expectation;
mod format;
mod gaps;
mod judge;
mod lint;
mod model;
mod outcome;
mod plan;
mod render;
mod report;
mod select;
mod settings;
mod shape;
mod source;
mod steps;
#[cfg(test)]
mod tests;
mod toml_text;
mod traces;
mod verdict;

use clnrm_engine::AnyQuery;

pub use diagnostic::{Diagnostic, Edit, Severity};
pub use format::{FORMATTED, Formatted, source_digest};
pub use lint::LINT;
pub use outcome::{encode, parts, stored};
pub use plan::{PLAN, Plan, facts};
pub use render::{CELLS, Origin, PACK, REACH, RENDERED, Reached, Rendered, numbered};
pub use report::{
    CHECK, Check, CheckGlance, Failure, REPORT, Report, ReportGlance, ScenarioReport, State,
};
pub use select::{SELECTION, Selection};
pub use settings::{FILES as SETTINGS_FILES, SETTINGS, Settings, unit as settings_unit};
pub use verdict::judged;

/// Every query, for the engine.
pub static QUERIES: [&dyn AnyQuery; 30] = [
    &select::SELECTION,
    &source::SOURCE,
    &render::TEMPLATE_TEXT,
    &render::TEMPLATE_EXISTS,
    &render::SIGNATURE,
    &render::TEMPLATE_SYNTAX,
    &render::TEMPLATE_PLACE,
    &render::FRAGMENT,
    &render::BUNDLE,
    &render::PROJECT_VARIABLE,
    &render::CELLS,
    &render::RENDERED,
    &render::PLACES,
    &render::REACH,
    &document::DOCUMENT,
    &settings::SETTINGS,
    &model::MODEL,
    &shape::SHAPE,
    &report::CHECK,
    &lint::LINT,
    &format::FORMATTED,
    &plan::PLAN,
    &outcome::OUTCOME,
    &gaps::EXPORTERS,
    &gaps::GAPS,
    &traces::LIFECYCLE_NAMED,
    &traces::TRACES,
    &verdict::EXPECTATION,
    &verdict::VERDICT,
    &report::REPORT,
];
