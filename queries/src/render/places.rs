//! Which line of a rendered text comes from which of the template. A template whose lines are
//! marked is rendered again, and that is only believed when the text comes out the same.

use clnrm_engine::{Cx, Query, Unit};
use serde::{Deserialize, Serialize};

use super::RENDERED;
use super::library::{Mode, Place, fragment_of};
use super::template::Template;
use crate::dialect::{MARK, MARK_END, is_template};
use crate::source::{SOURCE, line_and_column};

/// The places of a rendered text, where it is a template's and they can be told.
pub(crate) static PLACES: Query<Option<Places>> = Query::new("places", 1, places);

/// See [`PLACES`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Places {
    /// In the order of the rendered text.
    stretches: Vec<Stretch>,
}

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stretch {
    /// Where it begins in the rendered text.
    at: usize,
    /// Where it begins in the template, and how long it is there; what comes after belongs to the
    /// tag behind it.
    from: usize,
    length: usize,
    /// Of what another template wrote: its place there, as it is told.
    written_in: Option<String>,
}

impl Places {
    /// The byte of the template behind a byte of the rendered text, and what of another template
    /// wrote it.
    pub(crate) fn of(&self, rendered: usize) -> Option<(usize, Option<&str>)> {
        let after = self.stretches.partition_point(|stretch| stretch.at <= rendered);
        let Stretch { at, from, length, written_in } = self.stretches.get(after.checked_sub(1)?)?;
        Some((from + (rendered - at).min(*length), written_in.as_deref()))
    }
}

fn places(cx: &Cx<'_>, unit: &Unit) -> Option<Places> {
    let source = cx.get(&SOURCE, &Unit::file(unit.path.clone()));
    let text = source.as_ref().as_ref().ok().filter(|text| is_template(&text.0))?;
    let rendered = cx.get(&RENDERED, unit);
    let rendered = rendered.as_ref().as_ref().ok()?;
    let template = Template::new(cx, unit, &text.0).ok()?;
    [false, true].into_iter().find_map(|dialect| {
        let marked = marked(&template, dialect)?;
        let (plain, stretches) = read(&template, &marked);
        (*plain == *rendered.0).then_some(Places { stretches })
    })
}

/// The place of the template's last line that was written before it failed.
pub(super) fn last_place(template: &Template<'_>) -> Option<usize> {
    let output = marked(template, template.mode != Mode::Plain)?;
    let (_, stretches) = read(template, &output);
    stretches.iter().rfind(|stretch| stretch.written_in.is_none()).map(|stretch| stretch.from)
}

/// What the template writes when its lines are marked, up to where it fails.
fn marked(template: &Template<'_>, dialect: bool) -> Option<String> {
    let all = 0..template.outline.segments.len();
    let (text, defaults) = if template.mode == Mode::Plain && !dialect {
        (template.outline.marked(all, Some(0)), Vec::new())
    } else {
        let rewritten = template.rewritten(Some(0)).ok()?;
        (rewritten.text, rewritten.defaults)
    };
    let parsed = tera::Template::new(&template.unit.path, None, &text).ok()?;
    let numbers = numbers(template);
    let libraries = template.libraries(|place, name, fragment| {
        let number = numbers.iter().position(|other| other == place).map(|at| at + 1);
        let marked = fragment_of(template.cx, place, name, number);
        let marked = marked.unwrap_or_else(|_| fragment.clone());
        marked.dialect.filter(|_| dialect).unwrap_or(marked.ready)
    });
    let (clock, places) = (template.clock(), template.own_places());
    let env = |name: &str| template.env(name);
    let job = template.job(&clock, &env).render(libraries, parsed, &places, &defaults);
    Some(job.unwrap_or_else(|failure| failure.output))
}

/// The other templates, in the order of their numbers less one.
fn numbers(template: &Template<'_>) -> Vec<Place> {
    let mut places: Vec<Place> = template.pieces().keys().map(|(place, _)| place.clone()).collect();
    places.dedup();
    places
}

/// Takes the marks out of a text.
fn read(template: &Template<'_>, marked: &str) -> (String, Vec<Stretch>) {
    let (mut plain, mut stretches) = (String::new(), Vec::new());
    let others = numbers(template);
    let (mut from, mut length) = (0, 0);
    let mut pieces = marked.split(MARK);
    plain.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let Some((mark, rest)) = piece.split_once(MARK_END) else { continue };
        let mut numbers = mark.split(':').map(|number| number.parse::<usize>().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let (number, offset, own_length) = (next(), next(), next());
        let written_in = match number {
            0 => {
                (from, length) = (offset, own_length);
                None
            }
            _ => others.get(number - 1).map(|place| told(template.cx, place, offset)),
        };
        let stretch = match written_in {
            None => Stretch { at: plain.len(), from, length, written_in },
            // The tag that had it written comes after the last line of the template's own.
            Some(_) => Stretch { at: plain.len(), from: from + length, length: 0, written_in },
        };
        stretches.push(stretch);
        plain.push_str(rest);
    }
    (plain, stretches)
}

fn told(cx: &Cx<'_>, place: &Place, offset: usize) -> String {
    let text = cx.get(&super::TEMPLATE_TEXT, &place.unit(""));
    let text = text.as_ref().as_ref().and_then(|text| text.as_ref().ok());
    let (line, column) = text.map_or((0, 0), |text| line_and_column(text, offset));
    format!("{place}:{line}:{column}")
}
