//! Matrix files: one test for each cell of the product of the axes their text reads.

use std::collections::BTreeMap;

use clnrm_engine::{Cx, Query, Unit};
use serde_json::{Map, Value};

use super::template::Template;
use crate::dialect::{Outline, is_template};
use crate::source::SOURCE;

/// The cells of a file's matrix, as parts of units; empty when it is one test.
pub static CELLS: Query<Vec<String>> = Query::new("cells", 1, cells);

/// More cells are a mistake.
const MOST: usize = 1000;

/// Axes with their values.
pub(super) type Axes = BTreeMap<String, Vec<Value>>;

fn cells(cx: &Cx<'_>, unit: &Unit) -> Vec<String> {
    let source = cx.get(&SOURCE, unit);
    let Some(text) = source.as_ref().as_ref().ok().filter(|text| is_template(&text.0)) else {
        return Vec::new();
    };
    // What is wrong with it is told where it is rendered.
    let Ok(template) = Template::new(cx, unit, &text.0) else { return Vec::new() };
    labelled(&template.axes).into_iter().map(|(label, _)| label).collect()
}

/// Those axes that the text reads as one value; what only goes through a `for` or a filter stays a
/// list.
pub(super) fn axes(outline: &Outline<'_>, matrix: &Map<String, Value>) -> Axes {
    let mut axes = Axes::new();
    if matrix.is_empty() {
        return axes;
    }
    for segment in 0..outline.segments.len() {
        let tokens = outline.tokens(segment);
        let end = tokens.tokens.len();
        let container = match tokens.word(0) {
            "for" => tokens.find(0..end, "in").unwrap_or(end),
            _ => end,
        };
        for at in 0..end.min(container) {
            if tokens.word(at) != "matrix" || tokens.is_attribute(at) {
                continue;
            }
            let (axis, mut after) = match tokens.sign(at + 1) {
                "." => (tokens.word(at + 2), at + 3),
                "[" => (tokens.string(at + 2), at + 4),
                _ => continue,
            };
            let Some(Value::Array(values)) = matrix.get(axis) else { continue };
            // A number after it takes an element of the list.
            let mut element = false;
            while matches!(tokens.sign(after), "." | "[") {
                element |= tokens.text(after + 1).starts_with(|c: char| c.is_ascii_digit());
                after += 2;
            }
            if !element && tokens.sign(after) != "|" {
                axes.insert(axis.to_owned(), values.clone());
            }
        }
    }
    axes
}

/// The number of cells, where there are too many.
pub(super) fn too_many(axes: &Axes) -> Option<usize> {
    let cells = axes.values().map(Vec::len).fold(1, usize::saturating_mul);
    (cells > MOST).then_some(cells)
}

/// Every cell by its label, the last axis running fastest.
fn labelled(axes: &Axes) -> Vec<(String, Vec<(String, Value)>)> {
    if axes.is_empty() || too_many(axes).is_some() {
        return Vec::new();
    }
    let mut cells: Vec<Vec<(String, usize)>> = vec![Vec::new()];
    for (axis, values) in axes {
        let grow = |cell: Vec<(String, usize)>| {
            let with = |at: usize| cell.iter().cloned().chain([(axis.clone(), at)]).collect();
            (0..values.len()).map(with).collect::<Vec<Vec<_>>>()
        };
        cells = cells.into_iter().flat_map(grow).collect();
    }
    let told = |cell: Vec<(String, usize)>| {
        let label = |(axis, at): &(String, usize)| format!("{axis}={}", label(&axes[axis], *at));
        let text = cell.iter().map(label).collect::<Vec<_>>().join(",");
        let values = cell.into_iter().map(|(axis, at)| (axis.clone(), axes[&axis][at].clone()));
        (format!("[{text}]"), values.collect())
    };
    cells.into_iter().map(told).collect()
}

/// What a value is called: itself, or of a table its name, else its number; a name that is taken
/// gets its number, too.
fn label(values: &[Value], at: usize) -> String {
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(table) => table.get("name").and_then(Value::as_str).map(str::to_owned),
        Value::Array(_) | Value::Null => None,
        other => Some(other.to_string()),
    };
    match plain(&values[at]) {
        None => at.to_string(),
        Some(text) if values[..at].iter().any(|other| plain(other).as_ref() == Some(&text)) => {
            format!("{text}#{at}")
        }
        Some(text) => text,
    }
}

/// The values of the cell that a unit's part names.
pub(super) fn cell(axes: &Axes, part: &str) -> Vec<(String, Value)> {
    let cells = labelled(axes);
    cells.into_iter().find(|(label, _)| label == part).map(|(_, values)| values).unwrap_or_default()
}

/// The unit of a test, of one of whose scenarios or expectations this is the unit.
pub(crate) fn cell_of(unit: &Unit) -> Unit {
    let end = unit.part.rfind(']').map_or(0, |at| at + 1);
    if end == unit.part.len() { unit.clone() } else { unit.part(&unit.part[..end]) }
}

/// The unit of a test's scenario or expectation.
pub fn numbered(unit: &Unit, number: usize) -> Unit {
    unit.part(format!("{}{number}", unit.part))
}

/// The number of the scenario or expectation a unit names.
pub(crate) fn number_of(unit: &Unit) -> Option<usize> {
    unit.part.rsplit(']').next()?.parse().ok()
}
