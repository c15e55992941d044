//! What templates import and include: files beside them, in `templates/`, in the user's own folder
//! and in the pack, each taken apart so that whoever uses a macro depends on that macro alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use clnrm_engine::{Content, Cx, Query, Unit};
use serde::{Deserialize, Serialize};

use super::pack;
use super::parse::mode;
use super::prepared::Libraries;
use super::scope::Scope;
use crate::dialect::{Default, Outline, Parameter, Rewritten, SyntaxError};
use crate::plan::facts;
use crate::source::line_and_column;

/// The text of a template that others use; `None` when there is none.
pub(crate) static TEMPLATE_TEXT: Query<Option<Result<Arc<str>, String>>> =
    Query::new("template-text", 1, |cx, unit| text(cx, &Place::of(unit)));

/// Whether there is such a template.
pub(crate) static TEMPLATE_EXISTS: Query<bool> =
    Query::new("template-exists", 1, |cx, unit| cx.get(&TEMPLATE_TEXT, unit).is_some());

/// Where a template lies that one in a folder asks for; the unit is the folder and the name.
pub(crate) static TEMPLATE_PLACE: Query<Option<Place>> =
    Query::new("template-place", 1, |cx, unit| look(cx, &unit.path, &unit.part));

/// The parameters of a macro; the unit's part names it.
pub(crate) static SIGNATURE: Query<Result<Vec<Parameter>, Missing>> =
    Query::new("signature", 1, signature);

/// How a template has to be read, or what is wrong with it.
pub(crate) static TEMPLATE_SYNTAX: Query<Result<Mode, Broken>> =
    Query::new("template-syntax", 1, syntax);

/// A macro, or with an empty name all of a template, ready to be given to Tera.
pub(crate) static FRAGMENT: Query<Result<Fragment, Broken>> = Query::new("fragment", 1, fragment);

/// Some macros of a template, or with an empty name all of it, with everything they use themselves;
/// the unit's part has their names, with commas in between.
pub(crate) static BUNDLE: Query<Result<Bundle, Broken>> = Query::new("bundle", 1, bundle);

/// See [`BUNDLE`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bundle {
    pub(crate) pieces: BTreeMap<(Place, String), Fragment>,
    /// The pieces as they are given to Tera.
    pub(crate) libraries: Libraries,
    /// Names that they may read from what templates are given.
    pub(crate) names: BTreeSet<String>,
}

/// Where a template comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Place {
    /// A file of the workspace.
    Workspace(String),
    /// A file of the user's own folder of templates.
    Home(String),
    /// A file of the pack.
    Pack(String),
}

impl Place {
    fn of(unit: &Unit) -> Place {
        let path = unit.path.to_string();
        match unit.part.as_bytes().first() {
            Some(b'h') => Place::Home(path),
            Some(b'p') => Place::Pack(path),
            _ => Place::Workspace(path),
        }
    }

    fn letter(&self) -> char {
        match self {
            Place::Workspace(_) => 'w',
            Place::Home(_) => 'h',
            Place::Pack(_) => 'p',
        }
    }

    fn path(&self) -> &str {
        match self {
            Place::Workspace(path) | Place::Home(path) | Place::Pack(path) => path,
        }
    }

    /// The unit of one of its macros; of all of it when `name` is empty.
    pub(crate) fn unit(&self, name: &str) -> Unit {
        Unit::file(self.path()).part(format!("{}/{name}", self.letter()))
    }

    fn folder(&self) -> &str {
        self.path().rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Workspace(path) => f.write_str(path),
            Place::Home(path) => write!(f, "~/.clnrm/templates/{path}"),
            Place::Pack(path) => write!(f, "<pack>/{path}"),
        }
    }
}

/// How a template is given to Tera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// As it is.
    Plain,
    /// Rewritten.
    Dialect,
    /// Rewritten, with its TOML comments left out of it.
    Shielded,
}

/// Something is wrong within a template that is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Broken {
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// There is no macro of that name; these are there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Missing(pub(crate) Vec<String>);

/// Part of a template, and what it takes to render it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fragment {
    /// As it is given to Tera.
    pub(crate) ready: Ready,
    /// The same by the rules of the dialect, where that makes a difference.
    pub(crate) dialect: Option<Ready>,
    pub(crate) uses: Uses,
    pub(crate) parameters: Vec<Parameter>,
}

/// A text for Tera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) text: Arc<str>,
    /// What stands behind its defaults.
    pub(crate) defaults: Vec<Default>,
}

/// What some part of a template uses.
#[derive(Clone, Debug, std::default::Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Uses {
    /// Macros of other templates and of its own.
    pub(crate) macros: BTreeSet<(Place, String)>,
    /// The aliases of what it imports.
    pub(crate) imports: BTreeMap<String, Place>,
    /// What it includes or extends, by the names it uses.
    pub(crate) includes: BTreeMap<String, Place>,
    /// Names it may read from what templates are given.
    pub(crate) names: BTreeSet<String>,
}

fn text(cx: &Cx<'_>, place: &Place) -> Option<Result<Arc<str>, String>> {
    let bytes = match place {
        Place::Pack(path) => return pack::text(path).map(|text| Ok(text.into())),
        Place::Home(path) => cx.fact(facts::HOME_TEMPLATE, path)?,
        Place::Workspace(path) => match cx.file(path) {
            Content::Absent => return None,
            Content::Unreadable(reason) => return Some(Err(format!("cannot be read: {reason}"))),
            Content::Bytes(bytes) => bytes.to_vec(),
        },
    };
    if bytes.len() > super::LARGEST_TEMPLATE {
        return Some(Err(format!("has {} MiB, the most is 4", bytes.len() >> 20)));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Some(Ok(text.strip_prefix('\u{feff}').unwrap_or(text).into())),
        Err(_) => Some(Err("is not UTF-8".to_owned())),
    }
}

/// Where the template `name` lies for one in `folder`: beside it, in the workspace's `templates/`,
/// at the top, in the user's own folder, in the pack.
///
/// # Errors
/// Where was looked for it, or that it lies outside of all these.
pub(crate) fn find(cx: &Cx<'_>, folder: &str, name: &str) -> Result<Place, NotFound> {
    let climbs = |part: &str| part == "..";
    if name.starts_with('/') || name.split('/').any(climbs) || name.is_empty() {
        return Err(NotFound::Outside);
    }
    let found = cx.get(&TEMPLATE_PLACE, &Unit::file(folder).part(name));
    let nowhere = || NotFound::Nowhere(places(folder, name).iter().map(Place::to_string).collect());
    found.as_ref().clone().ok_or_else(nowhere)
}

fn look(cx: &Cx<'_>, folder: &str, name: &str) -> Option<Place> {
    let there = |place: &Place| *cx.get(&TEMPLATE_EXISTS, &place.unit(""));
    places(folder, name).into_iter().find(there)
}

fn places(folder: &str, name: &str) -> Vec<Place> {
    let beside = [join(folder, name), join("templates", name), name.to_owned()];
    let mut places: Vec<Place> = Vec::new();
    for path in beside {
        let place = Place::Workspace(path);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.extend([Place::Home(name.to_owned()), Place::Pack(name.to_owned())]);
    places
}

/// Why a template was not found.
pub(crate) enum NotFound {
    /// Its name leads out of the folders templates are taken from.
    Outside,
    /// It is in none of these places.
    Nowhere(Vec<String>),
}

impl NotFound {
    /// As an error at a place of the template that asks for it.
    pub(crate) fn error(self, name: &str, at: usize) -> SyntaxError {
        match self {
            NotFound::Outside => {
                let message = format!("`{name}` lies outside the folders templates are taken from");
                SyntaxError::new(at, message).code("render/outside")
            }
            NotFound::Nowhere(places) => {
                let error = SyntaxError::new(at, format!("there is no template `{name}`"));
                let error = error.code("render/missing-template");
                error.hint(format!("looked for {}", places.join(", ")))
            }
        }
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn signature(cx: &Cx<'_>, unit: &Unit) -> Result<Vec<Parameter>, Missing> {
    let (place, name) = (Place::of(unit), &unit.part[2..]);
    let text = cx.get(&TEMPLATE_TEXT, &place.unit(""));
    let Some(Ok(text)) = text.as_ref() else { return Err(Missing(Vec::new())) };
    let outline = Outline::new(text, false).or_else(|_| Outline::new(text, true));
    let Ok(outline) = outline else { return Err(Missing(Vec::new())) };
    let found = outline.macros.iter().rfind(|one| one.name == name);
    found.map(|one| one.parameters.clone()).ok_or_else(|| {
        let mut names: Vec<String> = outline.macros.into_iter().map(|one| one.name).collect();
        names.sort();
        Missing(names)
    })
}

fn syntax(cx: &Cx<'_>, unit: &Unit) -> Result<Mode, Broken> {
    let place = Place::of(unit);
    let text = cx.get(&TEMPLATE_TEXT, &place.unit(""));
    let text = match text.as_ref() {
        Some(Ok(text)) => text,
        Some(Err(reason)) => return Err(place.broken("", None, "render/unreadable", reason)),
        None => return Err(place.broken("", None, "render/unreadable", "is gone")),
    };
    let broken = |error: SyntaxError| place.broken_at(text, error);
    mode(cx, place.folder(), text).map_err(broken)
}

impl Place {
    fn broken(&self, text: &str, at: Option<usize>, code: &str, message: &str) -> Broken {
        let (line, column) = at.map_or((0, 0), |at| line_and_column(text, at));
        let (code, message) = (code.to_owned(), message.to_owned());
        Broken { file: self.to_string(), line, column, code, message, hint: None }
    }

    fn broken_at(&self, text: &str, error: SyntaxError) -> Broken {
        let broken = self.broken(text, Some(error.offset), &error.code, &error.message);
        Broken { hint: error.hint, ..broken }
    }
}

fn fragment(cx: &Cx<'_>, unit: &Unit) -> Result<Fragment, Broken> {
    fragment_of(cx, &Place::of(unit), &unit.part[2..], None)
}

/// The same, with marks for every line of text where `marks` is the number of the template.
pub(crate) fn fragment_of(
    cx: &Cx<'_>,
    place: &Place,
    name: &str,
    marks: Option<usize>,
) -> Result<Fragment, Broken> {
    let mode =
        *cx.get(&TEMPLATE_SYNTAX, &place.unit("")).as_ref().as_ref().map_err(Clone::clone)?;
    let text = cx.get(&TEMPLATE_TEXT, &place.unit(""));
    let Some(Ok(text)) = text.as_ref() else {
        return Err(place.broken("", None, "render/unreadable", "is gone"));
    };
    let broken = |error: SyntaxError| place.broken_at(text, error);
    let outline = Outline::new(text, mode == Mode::Shielded).map_err(broken)?;
    let found = outline.macros.iter().rfind(|one| one.name == name);
    let segments = match found {
        Some(one) => one.segments.clone(),
        None if name.is_empty() => 0..outline.segments.len(),
        None => return Err(place.broken("", None, "render/unknown-macro", "has no such macro")),
    };
    let scope = Scope::new(cx, place.folder(), &outline).map_err(broken)?;
    let uses = scope.uses(segments.clone(), Some(place)).map_err(broken)?;
    let ready =
        |rewritten: Rewritten| Ready { text: rewritten.text.into(), defaults: rewritten.defaults };
    let plain =
        Ready { text: outline.marked(segments.clone(), marks).into(), defaults: Vec::new() };
    let dialect = scope.rewrite(segments, marks).map(ready);
    let (ready, dialect) = match mode {
        Mode::Plain => {
            let other = dialect.ok().filter(|dialect| *dialect != plain);
            (plain, other)
        }
        Mode::Dialect | Mode::Shielded => (dialect.map_err(broken)?, None),
    };
    let parameters = found.map(|one| one.parameters.clone()).unwrap_or_default();
    Ok(Fragment { ready, dialect, uses, parameters })
}

fn bundle(cx: &Cx<'_>, unit: &Unit) -> Result<Bundle, Broken> {
    let place = Place::of(unit);
    let mut bundle =
        Bundle { pieces: BTreeMap::new(), libraries: Libraries::new(), names: BTreeSet::new() };
    for name in unit.part[2..].split(',') {
        bundle.add(cx, &place, name, &mut Vec::new())?;
    }
    bundle.libraries = libraries(&bundle.pieces, |_, _, fragment| fragment.ready.clone());
    Ok(bundle)
}

impl Bundle {
    fn add(
        &mut self,
        cx: &Cx<'_>,
        place: &Place,
        name: &str,
        way: &mut Vec<(Place, String)>,
    ) -> Result<(), Broken> {
        let key = (place.clone(), name.to_owned());
        if let Some(message) = endless(&key, way) {
            return Err(way[0].0.broken("", None, message.0, &message.1));
        }
        if self.pieces.contains_key(&key) {
            return Ok(());
        }
        let fragment = cx.get(&FRAGMENT, &place.unit(name));
        let fragment = fragment.as_ref().as_ref().map_err(Clone::clone)?;
        self.pieces.insert(key.clone(), fragment.clone());
        self.names.extend(fragment.uses.names.iter().cloned());
        way.push(key);
        for included in fragment.uses.includes.values() {
            self.add(cx, included, "", way)?;
        }
        for (place, name) in &fragment.uses.macros {
            self.add(cx, place, name, way)?;
        }
        way.pop();
        Ok(())
    }
}

/// Why the way to a macro or template does not end, or nearly: a code and a message.
pub(super) fn endless(
    key: &(Place, String),
    way: &[(Place, String)],
) -> Option<(&'static str, String)> {
    let told = |(place, name): &(Place, String)| match name.as_str() {
        "" => place.to_string(),
        name => format!("{name} ({place})"),
    };
    if let Some(start) = way.iter().position(|passed| passed == key) {
        let circle: Vec<String> = way[start..].iter().chain([key]).map(told).collect();
        let what = if key.1.is_empty() { "templates include" } else { "macros call" };
        let message = format!("{what} each other in a circle: {}", circle.join(" → "));
        return Some(("render/recursion", message));
    }
    let deepest = super::DEEPEST;
    let all = || way.iter().map(told).collect::<Vec<_>>().join(" → ");
    let message =
        || format!("macros and templates use each other more than {deepest} deep: {}", all());
    (way.len() >= deepest).then(|| ("render/too-deep", message()))
}

/// Pieces by the template they are of, as they are given to Tera.
pub(super) fn libraries<'a>(
    pieces: impl IntoIterator<Item = (&'a (Place, String), &'a Fragment)>,
    ready: impl Fn(&Place, &str, &Fragment) -> Ready,
) -> Libraries {
    let mut libraries = Libraries::new();
    for ((place, name), fragment) in pieces {
        let ready = ready(place, name, fragment);
        let library = libraries.entry(place.to_string()).or_default();
        Arc::make_mut(library).add(name.is_empty(), &ready, &fragment.uses);
    }
    // What is imported, but of which no macro is called, is there all the same.
    let names: Vec<String> = libraries.values().flat_map(|it| it.imported()).collect();
    for name in names {
        libraries.entry(name).or_default();
    }
    libraries
}
