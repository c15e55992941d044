//! A template with everything it uses and knows, ready to be rendered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clnrm_engine::{Cx, Unit};
use regex::Regex;
use serde_json::Value;
use tera::Context;

use super::job::{Failure, Job};
use super::library::{
    BUNDLE, Broken, Bundle, Fragment, Mode, Place, Ready, TEMPLATE_SYNTAX, Uses, endless,
};
use super::matrix::Axes;
use super::parse::parse;
use super::prepared::Libraries;
use super::scope::{Scope, meant};
use super::variables::{Lifted, Origin, Resolve};
use super::{
    FROZEN_CLOCK, LARGEST_TEMPLATE, NOWHERE, functions, library, matrix, places, variables,
};
use crate::dialect::{Default, EVERYTHING, Kind, Outline, Rewritten, SyntaxError};
use crate::plan::facts;

/// A template, ready to be rendered.
pub(super) struct Template<'a> {
    pub(super) cx: &'a Cx<'a>,
    pub(super) unit: &'a Unit,
    pub(super) text: &'a str,
    pub(super) outline: Outline<'a>,
    /// Until it is rendered.
    pub(super) parsed: Option<tera::Template>,
    pub(super) mode: Mode,
    pub(super) defaults: Vec<Default>,
    pub(super) uses: Uses,
    pub(super) bundles: Vec<Arc<Result<Bundle, Broken>>>,
    pub(super) lifted: Lifted,
    pub(super) context: Context,
    /// Axes of which one value at a time is read.
    pub(super) axes: Axes,
    pub(super) overrides: &'a Overrides,
    /// Where variables come from that are not the file's.
    pub(super) origins: BTreeMap<String, Origin>,
    /// What was read of the environment.
    pub(super) environment: RefCell<BTreeMap<String, Option<String>>>,
}

/// Values other than those there are, to see what they change.
#[derive(Default)]
pub(super) struct Overrides {
    pub(super) vars: BTreeMap<String, Value>,
    pub(super) environment: BTreeMap<String, Option<String>>,
}

static NO_OVERRIDES: Overrides = Overrides { vars: BTreeMap::new(), environment: BTreeMap::new() };

impl<'a> Template<'a> {
    pub(super) fn new(
        cx: &'a Cx<'a>,
        unit: &'a Unit,
        text: &'a str,
    ) -> Result<Template<'a>, SyntaxError> {
        Template::with(cx, unit, text, &NO_OVERRIDES)
    }

    pub(super) fn with(
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

    pub(super) fn rewritten(&self, marks: Option<usize>) -> Result<Rewritten, SyntaxError> {
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
        if let Some((code, message)) = endless(&key, way) {
            let first = self
                .outline
                .calls(0..self.outline.segments.len())
                .rfind(|call| call.name == way[0].1);
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
        let found = self.outline.calls(0..self.outline.segments.len()).find(|call| {
            let called = self.uses.imports.get(&call.namespace).unwrap_or(&own);
            call.name == *name && called == place
        });
        found.map_or(NOWHERE, |call| call.at)
    }

    /// A variable of the environment, which is noted.
    pub(super) fn env(&self, name: &str) -> Option<String> {
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
        if let Some((axis, _)) = self.axes.iter().find(|(_, values)| values.is_empty()) {
            let message = format!("the axis `{axis}` of the matrix is empty, so there is no test");
            let error = SyntaxError::new(place_of(self.text, axis), message).code("render/matrix");
            return Err(error.hint("give it values, or take the file out"));
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
        let place = |name: &str| place_of(text, name);
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

    pub(super) fn clock(&self) -> String {
        let now = || self.cx.fact(facts::NOW, "").and_then(|now| String::from_utf8(now).ok());
        if let Some(now) = self.lifted.real_clock.then(now).flatten() {
            return now;
        }
        self.lifted.clock.clone().unwrap_or_else(|| FROZEN_CLOCK.to_owned())
    }

    pub(super) fn render(&mut self) -> Result<String, SyntaxError> {
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
    pub(super) fn pieces(&self) -> BTreeMap<&(Place, String), &Fragment> {
        let bundles = self.bundles.iter().filter_map(|bundle| bundle.as_ref().as_ref().ok());
        bundles.flat_map(|bundle| &bundle.pieces).collect()
    }

    pub(super) fn job<'b>(
        &'b self,
        clock: &'b str,
        env: &'b dyn Fn(&str) -> Option<String>,
    ) -> Job<'b> {
        let Template { unit, lifted, context, .. } = self;
        Job { env, name: &unit.path, seed: lifted.seed, clock, context }
    }

    /// The names of other templates in this one, and where these lie.
    pub(super) fn own_places(&self) -> BTreeMap<String, String> {
        let imports = self.outline.imports.iter().filter_map(|import| {
            let place = self.uses.imports.get(&import.alias)?;
            Some((import.file.clone(), place.to_string()))
        });
        let includes = self.uses.includes.iter();
        let includes = includes.map(|(name, place)| (name.clone(), place.to_string()));
        imports.chain(includes).collect()
    }

    /// The other templates, each with as much of it as is used.
    pub(super) fn libraries(&self, ready: impl Fn(&Place, &str, &Fragment) -> Ready) -> Libraries {
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
            "function" => meant(error, &name, functions::names().collect::<Vec<_>>().into_iter()),
            "filter" => {
                let filters = functions::filters();
                meant(error, &name, filters.iter().map(String::as_str))
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
            let mut tags = tags.filter(|segment| segment.kind != Kind::Text);
            tags.find_map(|tag| {
                let start = tag.range.start.max(after);
                let found = self.text.get(start..tag.range.end)?.find(name.as_str())?;
                Some(start + found)
            })
        };
        let next_tag = || {
            let mut tags = self.outline.segments.iter().filter(|segment| {
                !matches!(segment.kind, Kind::Text | Kind::Comment) && segment.range.end > after
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

/// Where a text sets a key of this name, by the looks of its lines.
fn place_of(text: &str, name: &str) -> usize {
    let pattern = Regex::new(&format!(r"(?m)^\s*{}\s*=", regex::escape(name)));
    pattern.ok().and_then(|it| it.find(text)).map_or(NOWHERE, |found| found.start())
}
