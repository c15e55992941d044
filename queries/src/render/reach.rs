//! What a template reads, where it comes from, and how far it reaches: the lines of the rendered
//! text that are others when the value is another.

use clnrm_engine::{Cx, Query, Unit};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use similar::{DiffOp, TextDiff};

use super::template::{Overrides, Template};
use super::{Origin, problem, variables};
use crate::diagnostic::Problem;
use crate::dialect::is_template;
use crate::source::SOURCE;

/// What a template reads.
pub static REACH: Query<Result<Vec<Reached>, Problem>> = Query::new("reach", 1, reach);

/// A variable, or a variable of the environment, that a template reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// `vars.x`, or `env(X)`.
    pub name: String,
    /// As JSON; `None` when it is not set.
    pub value: Option<String>,
    /// Where the value comes from.
    pub origin: Origin,
    /// The lines it reaches, from 1, in order.
    pub lines: Vec<u32>,
}

fn reach(cx: &Cx<'_>, unit: &Unit) -> Result<Vec<Reached>, Problem> {
    let source = cx.get(&SOURCE, &Unit::file(unit.path.clone()));
    let text = &source.as_ref().as_ref().map_err(Clone::clone)?.0;
    if !is_template(text) {
        return Ok(Vec::new());
    }
    let none = Overrides::default();
    let told = |error| problem(text, error);
    let mut template = Template::with(cx, unit, text, &none).map_err(told)?;
    let base = template.render().map_err(told)?;
    let lines = |overrides: &Overrides| {
        let other = Template::with(cx, unit, text, overrides).and_then(|mut it| it.render());
        other.map(|other| changed_lines(&base, &other)).unwrap_or_default()
    };
    let mut reached = Vec::new();
    for name in &template.uses.names {
        let Some(value) = template.lifted.vars.get(name) else { continue };
        let origin = template.origins.get(name).copied().unwrap_or(Origin::File);
        let vars = [(name.clone(), other(value))].into();
        let lines = lines(&Overrides { vars, ..Overrides::default() });
        let value = Some(value.to_string());
        reached.push(Reached { name: format!("vars.{name}"), value, origin, lines });
    }
    let read = template.environment.borrow().clone();
    for (name, value) in read {
        let changed = Some(value.clone().unwrap_or_default() + "~");
        let lines = lines(&Overrides {
            environment: [(name.clone(), changed)].into(),
            ..Overrides::default()
        });
        let value = value.map(|value| Value::String(value).to_string());
        let origin = Origin::Environment;
        reached.push(Reached { name: format!("env({name})"), value, origin, lines });
    }
    Ok(reached)
}

/// A value that is as near as may be, but another.
fn other(value: &Value) -> Value {
    match value {
        Value::Null => Value::from("~"),
        Value::Bool(truth) => Value::from(!truth),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Value::from(number.wrapping_add(1)),
            None => Value::from(number.as_f64().unwrap_or_default() + 1.0),
        },
        Value::String(text) => Value::from(format!("{text}~")),
        Value::Array(items) => items.iter().map(other).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), other(value))).collect()
        }
    }
}

/// The lines of `old` that `new` does not have as they are, or after which it has more.
fn changed_lines(old: &str, new: &str) -> Vec<u32> {
    let diff = TextDiff::from_lines(old, new);
    let mut lines = Vec::new();
    for op in diff.ops() {
        let changed = match op {
            DiffOp::Equal { .. } => continue,
            DiffOp::Delete { old_index, old_len, .. }
            | DiffOp::Replace { old_index, old_len, .. } => *old_index..old_index + old_len,
            DiffOp::Insert { old_index, .. } => old_index.saturating_sub(1)..*old_index.max(&1),
        };
        lines.extend(changed.map(|line| line as u32 + 1));
    }
    lines.dedup();
    lines
}

impl Overrides {
    /// What a variable is made to be.
    pub(super) fn var(&self, cx: &Cx<'_>, name: &str) -> Option<Value> {
        self.vars.get(name).cloned().or_else(|| variables::defined(cx, name))
    }

    /// A variable of the environment.
    pub(super) fn env(&self, cx: &Cx<'_>, name: &str) -> Option<String> {
        self.environment.get(name).cloned().unwrap_or_else(|| cx.env(name))
    }
}
