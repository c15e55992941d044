//! Reads typed values out of a document, and remembers what was not understood.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::words::{self, Meant};
use crate::diagnostic::{At, Fix, KeyPath, Problem, UNKNOWN_EXPECTATION, nearest};
use crate::document::Tree;

/// What is wrong with a document, gathered while it is read.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn take(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A table being read. Every key it is asked for is known; [`Table::finish`] warns of the others.
pub(super) struct Table<'a> {
    entries: &'a [(String, Tree)],
    path: KeyPath,
    known: RefCell<Vec<&'static str>>,
    problems: &'a Problems,
}

impl<'a> Table<'a> {
    /// Of a tree that is a table; any other has no entries.
    pub(super) fn new(tree: &'a Tree, path: KeyPath, problems: &'a Problems) -> Table<'a> {
        let entries = if let Tree::Table(entries) = tree { &entries[..] } else { &[] };
        Table { entries, path, known: RefCell::default(), problems }
    }

    pub(super) fn path(&self) -> &KeyPath {
        &self.path
    }

    pub(super) fn problem(&self, problem: Problem) {
        self.problems.0.borrow_mut().push(problem);
    }

    /// The value of the first of these keys that is there, which are names of one thing.
    pub(super) fn value(&self, keys: &[&'static str]) -> Option<(&'a Tree, KeyPath)> {
        let (name, value) = self.found(keys)?;
        Some((value, self.path.key(name)))
    }

    /// The same, by its name: a path costs something, and most are not needed.
    fn found(&self, keys: &[&'static str]) -> Option<(&'a str, &'a Tree)> {
        self.known.borrow_mut().extend(keys);
        let mut found = keys.iter().filter_map(|key| self.entry(key));
        let (name, value) = found.next()?;
        if let Some((again, _)) = found.next() {
            let at = At::Key(self.path.key(again));
            let message = format!("`{again}` says the same as `{name}`, which is set too");
            self.problem(Problem::error("parse/twice", at, message).hint("keep one of them"));
        }
        Some((name, value))
    }

    fn entry(&self, key: &str) -> Option<&'a (String, Tree)> {
        self.entries.iter().find(|(name, _)| name == key)
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    pub(super) fn string(&self, keys: &[&'static str]) -> Option<String> {
        let (name, value) = self.found(keys)?;
        match value {
            Tree::String(text) => Some(text.clone()),
            other => self.wrong(self.path.key(name), "a string", other),
        }
    }

    pub(super) fn boolean(&self, keys: &[&'static str]) -> Option<bool> {
        let (name, value) = self.found(keys)?;
        match value {
            Tree::Boolean(flag) => Some(*flag),
            other => self.wrong(self.path.key(name), "a boolean", other),
        }
    }

    pub(super) fn integer(&self, keys: &[&'static str]) -> Option<i64> {
        let (name, value) = self.found(keys)?;
        match value {
            Tree::Integer(number) => Some(*number),
            other => self.wrong(self.path.key(name), "an integer", other),
        }
    }

    /// An integer that is not negative.
    pub(super) fn count(&self, keys: &[&'static str]) -> Option<u64> {
        let (name, value) = self.found(keys)?;
        let Tree::Integer(number) = value else {
            return self.wrong(self.path.key(name), "an integer", value);
        };
        (*number).try_into().ok().or_else(|| {
            let message = format!("{number} is less than 0");
            let at = At::Key(self.path.key(name));
            self.problem(Problem::error("parse/range", at, message));
            None
        })
    }

    pub(super) fn number(&self, keys: &[&'static str]) -> Option<f64> {
        let (name, value) = self.found(keys)?;
        match value {
            Tree::Integer(number) => Some(*number as f64),
            Tree::Float(number) => Some(*number),
            other => self.wrong(self.path.key(name), "a number", other),
        }
    }

    /// A list of strings, or one string as a list of one.
    pub(super) fn strings(&self, keys: &[&'static str]) -> Option<Vec<String>> {
        let (value, path) = self.value(keys)?;
        match value {
            Tree::String(text) => Some(vec![text.clone()]),
            Tree::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| match item {
                    Tree::String(text) => Some(text.clone()),
                    other => self.wrong(path.index(index), "a string", other),
                })
                .collect(),
            other => self.wrong(path, "a list of strings", other),
        }
    }

    /// Names of which at least one is meant: a list of strings that is not empty, or one string.
    pub(super) fn names(&self, keys: &[&'static str]) -> Option<Vec<String>> {
        let names = self.strings(keys)?;
        if names.is_empty()
            && let Some((_, path)) = self.value(keys)
        {
            self.says_nothing(path, "names nothing");
        }
        Some(names)
    }

    /// Something that is demanded when it is true; false would demand nothing.
    pub(super) fn demand(&self, keys: &[&'static str]) -> Option<bool> {
        let demanded = self.boolean(keys)?;
        if !demanded && let Some((_, path)) = self.value(keys) {
            self.says_nothing(path, "expects nothing when it is false");
        }
        Some(demanded)
    }

    /// An expectation that would hold whatever the run did.
    pub(super) fn says_nothing(&self, path: KeyPath, why: &str) {
        let message = format!("`{path}` {why}");
        let problem = Problem::error("shape/empty-expectation", At::Key(path), message);
        self.problem(problem.hint("say what is expected, or take it out"));
    }

    /// Something that another part of a file says.
    pub(super) fn misplaced(&self, path: KeyPath, message: &str, hint: &str) {
        self.problem(Problem::error("parse/misplaced", At::Key(path), message).hint(hint));
    }

    /// An argument vector: a list of strings, or one string split like a shell does.
    pub(super) fn argv(&self, keys: &[&'static str]) -> Option<Vec<String>> {
        if let Some((Tree::String(text), path)) = self.value(keys) {
            return shlex::split(text).or_else(|| {
                let message = "a quote is not closed";
                self.problem(Problem::error("parse/command", At::Key(path), message));
                None
            });
        }
        self.strings(keys)
    }

    /// A command: a list of strings, or one string of shell text.
    pub(super) fn command(&self, keys: &[&'static str]) -> Option<Vec<String>> {
        match self.value(keys)? {
            (Tree::String(text), _) => Some(shell(text)),
            _ => self.strings(keys),
        }
    }

    /// `"30s"`, or a number of `unit`s.
    pub(super) fn duration(&self, keys: &[&'static str], unit: Duration) -> Option<Duration> {
        let (value, path) = self.value(keys)?;
        let read = match value {
            Tree::String(text) => parse_duration(text),
            Tree::Integer(number) => {
                u32::try_from(*number).ok().and_then(|number| unit.checked_mul(number))
            }
            Tree::Float(number) => Duration::try_from_secs_f64(number * unit.as_secs_f64()).ok(),
            other => return self.wrong(path, "a duration", other),
        };
        let read = read.filter(|duration| *duration <= LONGEST);
        if read.is_none() {
            let message = "this is no duration of at most a week";
            let problem = Problem::error("parse/duration", At::Key(path), message);
            self.problem(problem.hint("write it like \"30s\", \"500ms\", \"2m\" or \"1h\""));
        }
        read
    }

    /// A time limit: `timeout` in seconds, or `timeout_ms`.
    pub(super) fn limit(&self) -> Option<Duration> {
        let seconds = self.duration(&["timeout"], Duration::from_secs(1));
        let milliseconds = self.duration(&["timeout_ms"], Duration::from_millis(1));
        match (seconds, milliseconds) {
            (Some(seconds), Some(milliseconds)) => Some(seconds.min(milliseconds)),
            (seconds, milliseconds) => seconds.or(milliseconds),
        }
    }

    /// Names and values: a table, or a list of `"K=V"`.
    pub(super) fn environment(&self, keys: &[&'static str]) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        let Some((value, path)) = self.value(keys) else { return environment };
        match value {
            Tree::Table(entries) => {
                for (name, value) in entries {
                    match scalar(value) {
                        Some(value) => drop(environment.insert(name.clone(), value)),
                        None => self.wrong_type(path.key(name), "a string", value),
                    }
                }
            }
            Tree::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let pair =
                        if let Tree::String(text) = item { text.split_once('=') } else { None };
                    match pair {
                        Some((name, value)) => {
                            environment.insert(name.to_owned(), value.to_owned());
                        }
                        None => self.wrong_type(path.index(index), "a string \"NAME=value\"", item),
                    }
                }
            }
            other => self.wrong_type(path, "a table of variables", other),
        }
        environment
    }

    pub(super) fn table(&self, keys: &[&'static str]) -> Option<Table<'a>> {
        let (value, path) = self.value(keys)?;
        self.as_table(value, path)
    }

    /// A table of an expectation, which must have an entry.
    pub(super) fn filled(&self, keys: &[&'static str]) -> Option<Table<'a>> {
        let table = self.table(keys)?;
        if table.entries.is_empty() {
            self.says_nothing(table.path.clone(), "is empty");
        }
        Some(table)
    }

    /// The tables in a list of tables; a single table is a list of one.
    pub(super) fn tables(&self, keys: &[&'static str]) -> Vec<Table<'a>> {
        match self.value(keys) {
            Some((Tree::Array(items), path)) => items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| self.as_table(item, path.index(index)))
                .collect(),
            Some((value, path)) => self.as_table(value, path).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// Every entry of a table whose keys the author chose.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Tree, KeyPath)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value, self.path.key(name)))
    }

    pub(super) fn as_table(&self, value: &'a Tree, path: KeyPath) -> Option<Table<'a>> {
        match value {
            Tree::Table(_) => Some(Table::new(value, path, self.problems)),
            other => self.wrong(path, "a table", other),
        }
    }

    fn wrong<T>(&self, path: KeyPath, expected: &str, found: &Tree) -> Option<T> {
        self.wrong_type(path, expected, found);
        None
    }

    pub(super) fn wrong_type(&self, path: KeyPath, expected: &str, found: &Tree) {
        let message = format!("`{path}` must be {expected}, it is {}", found.kind());
        self.problem(Problem::error("parse/type", At::Key(path), message));
    }

    /// Accepts keys that say nothing about the run.
    pub(super) fn skip(&self, keys: &[&'static str]) {
        self.known.borrow_mut().extend(keys);
    }

    /// Every entry nobody has asked for so far.
    pub(super) fn unknown(&self) -> Vec<(&'a str, &'a Tree, KeyPath)> {
        let known = self.known.borrow();
        self.entries().filter(|(name, ..)| !known.contains(name)).collect()
    }

    /// Warns of keys whose meaning is not implemented, but without which the verdict is right.
    pub(super) fn leave_out(&self, keys: &[&'static str]) {
        for key in keys {
            if let Some((_, path)) = self.value(&[*key]) {
                let message = format!("not supported yet: `{key}` is left out");
                self.problem(Problem::warning("left-out", At::Key(path), message));
            }
        }
    }

    /// Warns of the keys nobody asked for.
    pub(super) fn finish(&self) {
        self.finish_as("parse/unknown-key");
    }

    /// The same within an expectation, which is not run with such a key.
    pub(super) fn finish_expectation(&self) {
        self.finish_as(UNKNOWN_EXPECTATION);
    }

    fn finish_as(&self, code: &str) {
        let known = self.known.borrow();
        for (name, value) in self.entries {
            if known.contains(&name.as_str()) {
                continue;
            }
            let meant = words::meant(name, value, &known);
            let is_expectation = code == UNKNOWN_EXPECTATION || meant.is_some();
            let problem =
                self.unknown_key(if is_expectation { UNKNOWN_EXPECTATION } else { code }, name);
            let problem = match &meant {
                Some(Meant::Elsewhere(place)) => problem.hint(format!("it belongs in {place}")),
                Some(Meant::Misspelt(meant)) => problem.hint(format!("did you mean `{meant}`?")),
                _ => match nearest(name, known.iter().copied()) {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None if is_expectation => problem.hint(
                        "it looks like an expectation, and clnrm does not know it; \
                         `clnrm gen` prints those it knows",
                    ),
                    None => problem,
                },
            };
            self.problem(match nearest(name, known.iter().copied()) {
                Some(near) if self.entry(near).is_none() => {
                    problem.fix(Fix::Rename(self.path.key(name), near.to_owned()))
                }
                _ => problem,
            });
        }
    }

    /// An expectation that clnrm does not know is an error: the test would pass without it.
    fn unknown_key(&self, code: &str, name: &str) -> Problem {
        let at = At::Key(self.path.key(name));
        let message = format!("unknown key `{name}`");
        match code {
            UNKNOWN_EXPECTATION => Problem::error(code, at, message),
            _ => Problem::warning(code, at, message),
        }
    }
}

/// Whoever writes more has miscounted.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Shell text as an argument vector.
pub(super) fn shell(text: &str) -> Vec<String> {
    ["sh", "-c", text].map(str::to_owned).to_vec()
}

/// A value as text, as an environment has it.
pub(super) fn scalar(value: &Tree) -> Option<String> {
    match value {
        Tree::String(text) | Tree::Datetime(text) => Some(text.clone()),
        Tree::Integer(number) => Some(number.to_string()),
        Tree::Float(number) => Some(number.to_string()),
        Tree::Boolean(flag) => Some(flag.to_string()),
        Tree::Table(_) | Tree::Array(_) => None,
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let number: f64 = text[..unit].trim().parse().ok()?;
    let seconds = match &text[unit..] {
        "ms" => 0.001,
        "s" | "sec" | "secs" | "" => 1.0,
        "m" | "min" | "mins" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("1.5 m"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("-1s"), None);
        assert_eq!(parse_duration("fast"), None);
    }
}
