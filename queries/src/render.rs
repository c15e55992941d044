//! Renders templates; a file without template syntax is its own rendering.

mod functions;
mod generators;
mod guard;
mod library;
mod matrix;
mod pack;
mod places;
mod prepared;
mod reach;
mod variables;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Arc, LazyLock};

use clnrm_engine::{Cx, Query, Unit};
use regex::Regex;
use serde_json::Value;
use tera::Context;

use self::functions::Session;
use self::library::{Broken, Bundle, Fragment, Mode, Place, Scope, Uses};
use self::matrix::Axes;
use self::prepared::Libraries;
use self::variables::{Lifted, Resolve};
use crate::diagnostic::{At, Problem};
use crate::dialect::{Default, EVERYTHING, Outline, Rewritten, SyntaxError, is_template};
use crate::settings::FILES as SETTINGS_FILES;
use crate::source::{SOURCE, Text, line_and_column};

#[cfg(test)]
pub(crate) use self::generators::all as generators;
pub(crate) use self::library::{
    BUNDLE, FRAGMENT, SIGNATURE, TEMPLATE_EXISTS, TEMPLATE_PLACE, TEMPLATE_SYNTAX, TEMPLATE_TEXT,
};
pub use self::matrix::{CELLS, numbered};
pub(crate) use self::matrix::{cell_of, number_of};
pub use self::pack::PACK;
pub(crate) use self::places::PLACES;
pub use self::reach::{REACH, Reached};
pub use self::variables::Origin;
pub(crate) use self::variables::PROJECT_VARIABLE;

/// The TOML text of a file, or of a cell of its matrix, which the unit's part names.
pub static RENDERED: Query<Rendered> = Query::new("rendered", 2, rendered);

/// See [`RENDERED`].
pub type Rendered = Result<Text, Problem>;

/// The code of what keeps a matrix file from being one test.
pub(crate) const IS_MATRIX: &str = "render/is-matrix";

/// The most a template may render to.
const LARGEST: usize = 8 << 20;
/// The most a template may have.
const LARGEST_TEMPLATE: usize = 4 << 20;
/// How deep macros may call each other, and templates include others.
const DEEPEST: usize = 16;
/// The clock of templates unless a test sets its own.
const FROZEN_CLOCK: &str = "2025-01-01T00:00:00Z";

fn rendered(cx: &Cx<'_>, unit: &Unit) -> Rendered {
    let source = cx.get(&SOURCE, &Unit::file(unit.path.clone()));
    let text = source.as_ref().as_ref().map_err(Clone::clone)?;
    // Settings are what templates read, so they are none.
    if !is_template(&text.0) || SETTINGS_FILES.contains(&&*unit.path) {
        return Ok(text.clone());
    }
    let rendered = Template::new(cx, unit, &text.0).and_then(|mut template| {
        if unit.part.is_empty() && !template.axes.is_empty() {
            let message = "the file is one test for each cell of its matrix";
            return Err(SyntaxError::new(NOWHERE, message).code(IS_MATRIX));
        }
        template.render()
    });
    rendered.map(Text).map_err(|error| problem(&text.0, error))
}

/// The names a file's text and what it uses read; `None` when they read all there are, or cannot be
/// told.
pub(crate) fn names_read(cx: &Cx<'_>, unit: &Unit) -> Option<BTreeSet<String>> {
    let source = cx.get(&SOURCE, &Unit::file(unit.path.clone()));
    let text = source.as_ref().as_ref().ok()?;
    if !is_template(&text.0) {
        return Some(BTreeSet::new());
    }
    let template = Template::new(cx, unit, &text.0).ok()?;
    let mut names = template.uses.names;
    names.extend(template.lifted.names());
    (!names.contains(EVERYTHING)).then_some(names)
}

/// An error in a template as a problem of the file it is in.
fn problem(text: &str, error: SyntaxError) -> Problem {
    let SyntaxError { offset, code, message, hint } = error;
    let at = if offset == NOWHERE {
        At::File
    } else {
        let (line, column) = line_and_column(text, offset);
        At::Source(line, column)
    };
    Problem { hint, ..Problem::error(&code, at, message) }
}

/// The offset of an error that is of no place.
const NOWHERE: usize = usize::MAX;

/// A template, ready to be rendered.
struct Template<'a> {
    cx: &'a Cx<'a>,
    unit: &'a Unit,
    text: &'a str,
    outline: Outline<'a>,
    /// Until it is rendered.
    parsed: Option<tera::Template>,
    mode: Mode,
    defaults: Vec<Default>,
    uses: Uses,
    bundles: Vec<Arc<Result<Bundle, Broken>>>,
    lifted: Lifted,
    context: Context,
    /// Axes of which one value at a time is read.
    axes: Axes,
    overrides: &'a Overrides,
    /// Where variables come from that are not the file's.
    origins: BTreeMap<String, Origin>,
    /// What was read of the environment.
    environment: RefCell<BTreeMap<String, Option<String>>>,
}

/// Values other than those there are, to see what they change.
#[derive(Default)]
struct Overrides {
    vars: BTreeMap<String, Value>,
    environment: BTreeMap<String, Option<String>>,
}

static NO_OVERRIDES: Overrides = Overrides { vars: BTreeMap::new(), environment: BTreeMap::new() };

/// The outline of a template, its mode, and how it is given to Tera.
type Parsed<'a> = (Outline<'a>, Mode, tera::Template, Vec<Default>);

/// How a template has to be read.
fn mode(cx: &Cx<'_>, folder: &str, text: &str) -> Result<Mode, SyntaxError> {
    parse(cx, folder, "template", text).map(|(_, mode, ..)| mode)
}

/// Parses a template: as Tera's, else by the rules of the dialect, else without its TOML comments.
fn parse<'a>(
    cx: &Cx<'_>,
    folder: &str,
    name: &str,
    text: &'a str,
) -> Result<Parsed<'a>, SyntaxError> {
    let outline = match Outline::new(text, false) {
        Ok(outline) => outline,
        Err(error) => return parse_shielded(cx, folder, name, text).ok_or(error),
    };
    if let Ok(template) = tera::Template::new(name, None, text) {
        return Ok((outline, Mode::Plain, template, Vec::new()));
    }
    match parse_rewritten(cx, folder, name, &outline) {
        Ok((template, defaults)) => Ok((outline, Mode::Dialect, template, defaults)),
        Err(error) => parse_shielded(cx, folder, name, text).ok_or(error),
    }
}

fn parse_shielded<'a>(cx: &Cx<'_>, folder: &str, name: &str, text: &'a str) -> Option<Parsed<'a>> {
    let outline = Outline::new(text, true).ok()?;
    let (template, defaults) = parse_rewritten(cx, folder, name, &outline).ok()?;
    Some((outline, Mode::Shielded, template, defaults))
}

fn parse_rewritten(
    cx: &Cx<'_>,
    folder: &str,
    name: &str,
    outline: &Outline<'_>,
) -> Result<(tera::Template, Vec<Default>), SyntaxError> {
    let scope = Scope::new(cx, folder, outline)?;
    // What does not fit its signature is told before what does not parse.
    scope.uses(0..outline.segments.len(), None)?;
    let rewritten = scope.rewrite(0..outline.segments.len(), None)?;
    let template = tera::Template::new(name, None, &rewritten.text)
        .map_err(|error| syntax_error(&error, &rewritten))?;
    Ok((template, rewritten.defaults))
}

/// What Tera says of a template that does not parse, at its place in the author's text.
fn syntax_error(error: &tera::Error, rewritten: &Rewritten) -> SyntaxError {
    static PLACE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"--> (\d+):(\d+)").expect("the pattern is a constant"));
    let text = chain(error);
    let number = |found: &regex::Captures<'_>, at: usize| found[at].parse::<usize>().ok();
    let place = PLACE.captures(&text).and_then(|it| Some((number(&it, 1)?, number(&it, 2)?)));
    let expected = text.lines().rev().find(|line| line.trim_start().starts_with("= "));
    let message = expected.map_or_else(
        || text.lines().next().unwrap_or_default().to_owned(),
        |line| line.trim_start().trim_start_matches("= ").to_owned(),
    );
    let offset = place.map_or(NOWHERE, |(line, column)| {
        let before =
            rewritten.text.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
        let line = rewritten.text[before..].split('\n').next().unwrap_or_default();
        let within = line.char_indices().nth(column - 1).map_or(line.len(), |(at, _)| at);
        rewritten.map.old(before + within)
    });
    SyntaxError::new(offset, message)
}

impl<'a> Template<'a> {
    fn new(cx: &'a Cx<'a>, unit: &'a Unit, text: &'a str) -> Result<Template<'a>, SyntaxError> {
        Template::with(cx, unit, text, &NO_OVERRIDES)
    }

    fn with(
        cx: &'a Cx<'a>,
        unit: &'a Unit,
        text: &'a str,
        overrides: &'a Overrides,
    ) -> Result<Template<'a>, SyntaxError> {
        if text.len() > LARGEST_TEMPLATE {
            let message = format!("the template has {} MiB, the most is 4", text.len() >> 20);
            return Err(SyntaxError::new(NOWHERE, message).code("render/too-large"));
        }
        let folder = unit.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let (outline, mode, parsed, defaults) = parse(cx, folder, &unit.path, text)?;
        let lifted = variables::lift(&outline)?;
        let mut template = Template {
            cx,
            unit,
            text,
            outline,
            parsed: Some(parsed),
            mode,
            defaults,
            uses: Uses::default(),
            bundles: Vec::new(),
            lifted,
            context: Context::new(),
            axes: Axes::new(),
            overrides,
            origins: BTreeMap::new(),
            environment: RefCell::default(),
        };
        template.gather()?;
        template.know()?;
        Ok(template)
    }

    fn folder(&self) -> &str {
        self.unit.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    fn rewritten(&self, marks: Option<usize>) -> Result<Rewritten, SyntaxError> {
        let scope = Scope::new(self.cx, self.folder(), &self.outline)?;
        scope.rewrite(0..self.outline.segments.len(), marks)
    }

    fn own_place(&self) -> Place {
        Place::Workspace(self.unit.path.to_string())
    }

    /// Gathers what the template uses, and what that uses, down to the last macro.
    fn gather(&mut self) -> Result<(), SyntaxError> {
        let own = self.own_place();
        let all = 0..self.outline.segments.len();
        let scope = Scope::new(self.cx, self.folder(), &self.outline)?.with_bundles();
        let uses = scope.uses(all, Some(&own))?;
        for import in &self.outline.imports {
            let Some(place) = uses.imports.get(&import.alias) else { continue };
            // Of one that is called, its macros tell.
            if uses.macros.iter().any(|(called, _)| called == place) {
                continue;
            }
            if let Err(broken) = self.cx.get(&TEMPLATE_SYNTAX, &place.unit("")).as_ref() {
                return Err(broken_at(broken, import.at));
            }
        }
        let mut seen = BTreeSet::new();
        for (_, name) in uses.macros.iter().filter(|(place, _)| *place == own) {
            self.own_macro(&scope, &own, name, &mut Vec::new(), &mut seen)?;
        }
        let included = uses.includes.values().map(|place| self.cx.get(&BUNDLE, &place.unit("")));
        let bundles: Vec<_> = scope.bundles().iter().cloned().chain(included).collect();
        drop(scope);
        self.uses = uses;
        for bundle in &bundles {
            match bundle.as_ref() {
                Ok(bundle) => self.uses.names.extend(bundle.names.iter().cloned()),
                Err(broken) => return Err(broken_at(broken, self.asks_for(broken))),
            }
        }
        self.bundles = bundles;
        Ok(())
    }

    /// Looks whether the template's own macros call each other without end.
    fn own_macro(
        &self,
        scope: &Scope<'_>,
        own: &Place,
        name: &str,
        way: &mut Vec<(Place, String)>,
        seen: &mut BTreeSet<String>,
    ) -> Result<(), SyntaxError> {
        let key = (own.clone(), name.to_owned());
        if let Some((code, message)) = library::endless(&key, way) {
            let calls = self.outline.calls(0..self.outline.segments.len());
            let first = calls.iter().rfind(|call| call.name == way[0].1);
            let at = first.map_or(NOWHERE, |call| call.at);
            return Err(SyntaxError::new(at, message).code(code));
        }
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(found) = self.outline.macros.iter().rfind(|one| one.name == name) else {
            return Ok(());
        };
        way.push(key);
        let uses = scope.uses(found.segments.clone(), Some(own))?;
        for (_, name) in uses.macros.iter().filter(|(place, _)| place == own) {
            self.own_macro(scope, own, name, way, seen)?;
        }
        way.pop();
        Ok(())
    }

    /// Where the template asks for what is broken: one by one, to see which of them it is.
    fn asks_for(&self, broken: &Broken) -> usize {
        let includes = self.uses.includes.values().map(|place| (place.clone(), String::new()));
        let used = self.uses.macros.iter().cloned().chain(includes);
        let is_broken = |(place, name): &(Place, String)| {
            self.cx.get(&BUNDLE, &place.unit(name)).as_ref().as_ref().err() == Some(broken)
        };
        let found = used.into_iter().find(is_broken);
        found.map_or(NOWHERE, |used| self.place_of(&used))
    }

    /// Where the template asks for something.
    fn place_of(&self, (place, name): &(Place, String)) -> usize {
        if name.is_empty() {
            let names = self.uses.includes.iter().filter(|(_, found)| *found == place);
            let names: BTreeSet<&String> = names.map(|(name, _)| name).collect();
            let found = self.outline.includes.iter().find(|(name, _)| names.contains(name));
            return found.map_or(NOWHERE, |(_, at)| *at);
        }
        let own = self.own_place();
        let calls = self.outline.calls(0..self.outline.segments.len());
        let found = calls.iter().find(|call| {
            let called = self.uses.imports.get(&call.namespace).unwrap_or(&own);
            call.name == *name && called == place
        });
        found.map_or(NOWHERE, |call| call.at)
    }

    /// A variable of the environment, which is noted.
    fn env(&self, name: &str) -> Option<String> {
        let value = self.overrides.env(self.cx, name);
        self.environment.borrow_mut().insert(name.to_owned(), value.clone());
        value
    }

    /// Makes up what the template knows.
    fn know(&mut self) -> Result<(), SyntaxError> {
        let mut names = self.uses.names.clone();
        names.extend(self.lifted.names());
        if names.contains(EVERYTHING) {
            names.extend(variables::known_names(self.cx));
            names.extend(self.lifted.vars.keys().cloned());
        }
        let defined: BTreeMap<String, Value> = names
            .iter()
            .filter_map(|name| Some((name.clone(), self.overrides.var(self.cx, name)?)))
            .collect();
        for (name, value) in &defined {
            self.lifted.vars.insert(name.clone(), value.clone());
            self.origins.insert(name.clone(), Origin::CommandLine);
        }
        if self.lifted.is_open() {
            self.resolve()?;
        }
        for name in &names {
            if !self.lifted.vars.contains_key(name)
                && let Some((value, origin)) = self.fallback(name)
            {
                self.lifted.vars.insert(name.clone(), value);
                self.origins.insert(name.clone(), origin);
            }
        }
        self.axes = matrix::axes(&self.outline, &self.lifted.matrix);
        if let Some(cells) = matrix::too_many(&self.axes) {
            let message = format!("the matrix has {cells} cells, the most is 1000");
            return Err(SyntaxError::new(NOWHERE, message).code("render/matrix"));
        }
        let cell = matrix::cell(&self.axes, &self.unit.part);
        for (axis, value) in cell {
            self.lifted.matrix.insert(axis, value);
        }
        self.context = context(&self.lifted);
        Ok(())
    }

    /// What a name is that neither the command line nor the file says.
    fn fallback(&self, name: &str) -> Option<(Value, Origin)> {
        variables::fallback(self.cx, name, |variable| self.overrides.env(self.cx, variable))
    }

    fn resolve(&mut self) -> Result<(), SyntaxError> {
        let (cx, text) = (self.cx, self.text);
        let seed = self.lifted.seed;
        let clock = self.clock();
        let env = |name: &str| self.env(name);
        let place = |name: &str| {
            let pattern = Regex::new(&format!(r"(?m)^\s*{}\s*=", regex::escape(name)));
            pattern.ok().and_then(|it| it.find(text)).map_or(NOWHERE, |found| found.start())
        };
        let outside = |name: &str| self.fallback(name).map(|(value, _)| value);
        let mut render = |template: &str, known: &Lifted| {
            let (_, _, parsed, defaults) = parse(cx, "", "variable", template)?;
            let mut job =
                Job { env: &env, name: "variable", seed, clock: &clock, context: &context(known) };
            job.render(Libraries::new(), parsed, &BTreeMap::new(), &defaults).map_err(|failure| {
                let at = text.find(template).unwrap_or(NOWHERE);
                SyntaxError { offset: at, ..failure.error }
            })
        };
        let mut lifted = self.lifted.clone();
        let done =
            lifted.resolve(Resolve { render: &mut render, outside: &outside, place: &place });
        self.lifted = lifted;
        done
    }

    fn clock(&self) -> String {
        self.lifted.clock.clone().unwrap_or_else(|| FROZEN_CLOCK.to_owned())
    }

    fn render(&mut self) -> Result<String, SyntaxError> {
        let parsed = self.parsed.take().expect("it is rendered once");
        let failure = match self.attempt(parsed, &self.defaults, false) {
            Ok(text) => return Ok(text),
            Err(failure) => failure,
        };
        if failure.settled {
            return Err(self.located(failure));
        }
        match self.by_the_dialect() {
            Some(Ok(text)) => Ok(text),
            Some(Err(failure)) => Err(self.located(failure)),
            None => Err(self.located(failure)),
        }
    }

    /// What Tera cannot render by itself may be a matter of the dialect.
    fn by_the_dialect(&self) -> Option<Result<String, Failure>> {
        let rewritten = self.rewritten(None).ok()?;
        let own = self.mode == Mode::Plain && rewritten.text != self.text;
        if !own && !self.pieces().values().any(|fragment| fragment.dialect.is_some()) {
            return None;
        }
        let parsed = tera::Template::new(&self.unit.path, None, &rewritten.text).ok()?;
        Some(self.attempt(parsed, &rewritten.defaults, true))
    }

    fn attempt(
        &self,
        parsed: tera::Template,
        defaults: &[Default],
        dialect: bool,
    ) -> Result<String, Failure> {
        let libraries = match &self.bundles[..] {
            // Most templates import one library.
            [one] if !dialect => {
                let bundle = one.as_ref().as_ref();
                self.with_imports(
                    bundle.map_or_else(|_| Libraries::new(), |it| it.libraries.clone()),
                )
            }
            _ => self.libraries(|_, _, fragment| {
                let ready = fragment.dialect.as_ref().filter(|_| dialect);
                ready.unwrap_or(&fragment.ready).clone()
            }),
        };
        let (clock, env) = (self.clock(), |name: &str| self.env(name));
        self.job(&clock, &env).render(libraries, parsed, &self.own_places(), defaults)
    }

    /// All macros and templates that are used.
    fn pieces(&self) -> BTreeMap<&(Place, String), &Fragment> {
        let bundles = self.bundles.iter().filter_map(|bundle| bundle.as_ref().as_ref().ok());
        bundles.flat_map(|bundle| &bundle.pieces).collect()
    }

    fn job<'b>(&'b self, clock: &'b str, env: &'b dyn Fn(&str) -> Option<String>) -> Job<'b> {
        let Template { unit, lifted, context, .. } = self;
        Job { env, name: &unit.path, seed: lifted.seed, clock, context }
    }

    /// The names of other templates in this one, and where these lie.
    fn own_places(&self) -> BTreeMap<String, String> {
        let imports = self.outline.imports.iter().filter_map(|import| {
            let place = self.uses.imports.get(&import.alias)?;
            Some((import.file.clone(), place.to_string()))
        });
        let includes = self.uses.includes.iter();
        let includes = includes.map(|(name, place)| (name.clone(), place.to_string()));
        imports.chain(includes).collect()
    }

    /// The other templates, each with as much of it as is used.
    fn libraries(&self, ready: impl Fn(&Place, &str, &Fragment) -> library::Ready) -> Libraries {
        self.with_imports(library::libraries(self.pieces(), ready))
    }

    /// With those that are imported for nothing.
    fn with_imports(&self, mut libraries: Libraries) -> Libraries {
        for place in self.uses.imports.values() {
            libraries.entry(place.to_string()).or_default();
        }
        libraries
    }

    /// With a hint at the name that was meant, where one is not known.
    fn hinted(&self, error: SyntaxError) -> SyntaxError {
        let Some((what, name)) = error.message.split_once(" `") else { return error };
        let name = name.split('`').next().unwrap_or_default().to_owned();
        match what {
            "function" => {
                library::meant(error, &name, functions::names().collect::<Vec<_>>().into_iter())
            }
            "filter" => {
                let filters = functions::filters();
                library::meant(error, &name, filters.iter().map(String::as_str))
            }
            "variable" => {
                let (table, last) = name.rsplit_once('.').unwrap_or(("", &name));
                let known = match table {
                    "" | "vars" => Some(&self.lifted.vars),
                    "otel" => Some(&self.lifted.otel),
                    "matrix" => Some(&self.lifted.matrix),
                    _ => None,
                };
                let names = known.into_iter().flat_map(|known| known.keys().map(String::as_str));
                match crate::diagnostic::nearest(last, names) {
                    Some(nearest) => error.hint(format!("did you mean `{nearest}`?")),
                    None => error.hint(
                        "set it in [vars], with -D, or give it a default: `| default(value=…)`",
                    ),
                }
            }
            _ => error,
        }
    }

    /// A failure with its place: what was written last comes before what failed.
    fn located(&self, failure: Failure) -> SyntaxError {
        if failure.error.code != "render/failed" && failure.error.code != "render/limit" {
            return failure.error;
        }
        let failure = Failure { error: self.hinted(failure.error), ..failure };
        let after = places::last_place(self).unwrap_or(0);
        let named = Regex::new("`([^`]+)`").expect("the pattern is a constant");
        let message = &failure.error.message;
        let names = || named.captures_iter(message).filter_map(|found| found.get(1));
        let in_tag = |name: regex::Match<'_>| {
            let tags = self.outline.segments.iter().filter(|segment| segment.range.end > after);
            let mut tags = tags.filter(|segment| segment.kind != crate::dialect::Kind::Text);
            tags.find_map(|tag| {
                let start = tag.range.start.max(after);
                let found = self.text.get(start..tag.range.end)?.find(name.as_str())?;
                Some(start + found)
            })
        };
        let next_tag = || {
            let mut tags = self.outline.segments.iter().filter(|segment| {
                !matches!(segment.kind, crate::dialect::Kind::Text | crate::dialect::Kind::Comment)
                    && segment.range.end > after
            });
            tags.next().map(|tag| tag.range.start)
        };
        let offset = names().find_map(in_tag).or_else(next_tag);
        SyntaxError { offset: offset.unwrap_or(NOWHERE), ..failure.error }
    }
}

/// An error in a template that another one uses at a place.
fn broken_at(broken: &Broken, at: usize) -> SyntaxError {
    let Broken { file, line, column, code, message, hint } = broken;
    let message = match (line, code.as_str()) {
        (0, "render/recursion" | "render/too-deep") => message.clone(),
        (0, _) => format!("`{file}` {message}"),
        _ => format!("{file}:{line}:{column}: {message}"),
    };
    let error = SyntaxError::new(at, message).code(code);
    SyntaxError { hint: hint.clone(), ..error }
}

/// The context of a template: `vars.x` and `x`, `otel.x`, `matrix.x`.
fn context(lifted: &Lifted) -> Context {
    let mut context = Context::new();
    for (name, value) in &lifted.vars {
        context.insert(name, value);
    }
    context.insert("vars", &lifted.vars);
    for (name, table) in [("otel", &lifted.otel), ("matrix", &lifted.matrix)] {
        if !table.is_empty() {
            context.insert(name, table);
        }
    }
    context
}

/// A rendering.
struct Job<'a> {
    /// A variable of the environment.
    env: &'a dyn Fn(&str) -> Option<String>,
    name: &'a str,
    seed: u64,
    clock: &'a str,
    context: &'a Context,
}

/// What kept a template from being rendered.
struct Failure {
    error: SyntaxError,
    /// What was written before.
    output: String,
    /// Whether the rules of the dialect cannot change it.
    settled: bool,
}

impl Job<'_> {
    fn render(
        &mut self,
        libraries: Libraries,
        mut parsed: tera::Template,
        places: &BTreeMap<String, String>,
        defaults: &[Default],
    ) -> Result<String, Failure> {
        let broken = |error: &tera::Error| Failure {
            error: render_error(error),
            output: String::new(),
            settled: false,
        };
        guard::fit(&mut parsed, places, defaults).map_err(|error| broken(&error))?;
        self.name.clone_into(&mut parsed.name);
        prepared::with_template(libraries, parsed, |tera, session| {
            session.begin(self.clock, self.seed);
            loop {
                let mut output = Output { text: Vec::new(), full: false };
                let outcome = tera.render_to(self.name, self.context, &mut output);
                // A function cannot reach `cx`, so it stops at the first variable it does not know
                // yet, and rendering starts again with that one: exactly the variables that are
                // read are recorded.
                if let Some(name) = session.take_wanted() {
                    let value = (self.env)(&name);
                    session.insert(name, value);
                    session.restart();
                    continue;
                }
                return finish(outcome, output, session);
            }
        })
        .map_err(|error| broken(&error))?
    }
}

/// What a template writes, as far as that is bearable.
struct Output {
    text: Vec<u8>,
    full: bool,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > LARGEST {
            self.full = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn finish(outcome: tera::Result<()>, output: Output, session: &Session) -> Result<String, Failure> {
    let text = String::from_utf8(output.text).expect("templates are text");
    let limit = session
        .exhausted()
        .or_else(|| output.full.then(|| "the template renders to more than 8 MiB".to_owned()));
    match (outcome, limit) {
        (_, Some(reason)) => {
            let error = SyntaxError::new(NOWHERE, reason).code("render/limit");
            Err(Failure { error, output: text, settled: true })
        }
        (Ok(()), None) => Ok(text),
        (Err(error), None) => {
            Err(Failure { error: render_error(&error), output: text, settled: false })
        }
    }
}

/// A template that fails while it renders.
fn render_error(error: &tera::Error) -> SyntaxError {
    let mut reasons: Vec<String> = chain(error).lines().map(str::to_owned).collect();
    let ours = |reason: &String| reason.starts_with("Function call '__");
    reasons.retain(|reason| !ours(reason));
    if reasons.len() > 1 && reasons[0].starts_with("Failed to render") {
        reasons.remove(0);
    }
    let message = reasons.join(": ").replace('\'', "`");
    let message = message.split(" while rendering ").next().unwrap_or_default();
    let first = message.chars().next().map(|first| first.to_lowercase().to_string());
    let rest: String = message.chars().skip(1).collect();
    SyntaxError::new(NOWHERE, first.unwrap_or_default() + &rest).code("render/failed")
}

/// An error and its causes, a line each.
fn chain(error: &tera::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}\n{error}");
        cause = error.source();
    }
    text
}
