//! What a template says about itself: its macros with their signatures, what it imports, which
//! macros it calls and which names it reads.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::lexer::{Kind, Segment, SyntaxError, Token, TokenKind, scan, tokens};
use super::rewrite::{mark, mark_at};

/// Words of expressions that are no names of variables.
const WORDS: [&str; 16] = [
    "False", "True", "and", "else", "false", "if", "in", "is", "loop", "matrix", "none", "not",
    "or", "otel", "self", "true",
];

/// Stands for every name there is.
pub(crate) const EVERYTHING: &str = "*";

/// A template in segments and tokens.
pub(crate) struct Outline<'a> {
    pub(crate) text: &'a str,
    pub(crate) segments: Vec<Segment>,
    /// Those of each segment; none for text.
    tokens: Vec<Vec<Token>>,
    /// `{% import "file" as alias %}`
    pub(crate) imports: Vec<Import>,
    /// What is included or extended, with the place of the name.
    pub(crate) includes: Vec<(String, usize)>,
    pub(crate) macros: Vec<MacroText>,
    /// Calls of macros, with the segments they are in.
    calls: Vec<(usize, Call)>,
}

/// An `import`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Import {
    pub(crate) file: String,
    pub(crate) alias: String,
    /// Where the name of the file is written.
    pub(crate) at: usize,
}

/// A macro's definition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MacroText {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
    /// Its segments, from `macro` to `endmacro`.
    pub(crate) segments: Range<usize>,
}

/// A parameter of a macro or function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// Whether it may be left out.
    pub(crate) optional: bool,
}

/// A call of a macro.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The alias of an import, or `self`.
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Where the name is written.
    pub(crate) at: usize,
    /// How many arguments come without a name, and where the last of them is.
    pub(crate) positional: Vec<usize>,
    /// The others, with their places.
    pub(crate) named: Vec<(String, usize)>,
}

impl<'a> Outline<'a> {
    /// With `shield`, lines that are TOML comments are no part of the template.
    pub(crate) fn new(text: &'a str, shield: bool) -> Result<Outline<'a>, SyntaxError> {
        let segments = scan(text, shield)?;
        let of = |segment: &Segment| match segment.kind {
            Kind::Expression | Kind::Statement => tokens(text, segment),
            _ => Ok(Vec::new()),
        };
        let tokens = segments.iter().map(of).collect::<Result<_, _>>()?;
        let (imports, includes, macros) = (Vec::new(), Vec::new(), Vec::new());
        let calls = Vec::new();
        let mut outline = Outline { text, segments, tokens, imports, includes, macros, calls };
        outline.read_statements()?;
        outline.read_calls();
        Ok(outline)
    }

    pub(crate) fn tokens(&self, segment: usize) -> Tokens<'_> {
        Tokens { text: self.text, tokens: &self.tokens[segment] }
    }

    fn read_statements(&mut self) -> Result<(), SyntaxError> {
        let (mut imports, mut includes, mut macros) = (Vec::new(), Vec::new(), Vec::new());
        let mut open: Option<(usize, String, Vec<Parameter>)> = None;
        for at in 0..self.segments.len() {
            if self.segments[at].kind != Kind::Statement {
                continue;
            }
            let tokens = self.tokens(at);
            match tokens.word(0) {
                "import" if tokens.is_string(1) && tokens.word(2) == "as" => {
                    let file = tokens.string(1).to_owned();
                    let (alias, at) = (tokens.word(3).to_owned(), tokens.tokens[1].range.start + 1);
                    imports.push(Import { file, alias, at });
                }
                "include" | "extends" => {
                    let names = (1..tokens.tokens.len()).filter(|at| tokens.is_string(*at));
                    let place = |at: usize| tokens.tokens[at].range.start + 1;
                    includes.extend(names.map(|at| (tokens.string(at).to_owned(), place(at))));
                }
                "macro" => {
                    let (name, parameters) = tokens.signature()?;
                    open = Some((at, name, parameters));
                }
                "endmacro" => {
                    if let Some((start, name, parameters)) = open.take() {
                        macros.push(MacroText { name, parameters, segments: start..at + 1 });
                    }
                }
                _ => {}
            }
        }
        (self.imports, self.includes, self.macros) = (imports, includes, macros);
        Ok(())
    }

    fn read_calls(&mut self) {
        let mut calls = Vec::new();
        for segment in 0..self.segments.len() {
            let tokens = self.tokens(segment);
            for at in 1..tokens.tokens.len() {
                if tokens.sign(at) == "::" && tokens.sign(at + 2) == "(" {
                    calls.push((segment, tokens.call(at - 1)));
                }
            }
        }
        self.calls = calls;
    }

    /// Some segments as they are but for comments, with marks where a number is given; see
    /// [`mark`].
    pub(crate) fn marked(&self, segments: Range<usize>, marks: Option<usize>) -> String {
        let whole = segments == (0..self.segments.len());
        let text = |at: usize| {
            let Segment { kind, range, inner } = &self.segments[at];
            let text = &self.text[range.clone()];
            match (kind, marks) {
                (Kind::Text, Some(template)) => mark(self.text, range.clone(), template),
                (Kind::Expression, Some(template)) if !text.starts_with("{{-") => {
                    mark_at(range.start, 0, template) + text
                }
                // What a comment says changes nothing; that it trims what is around it does.
                (Kind::Comment, _) if !whole => {
                    let (left, right) = (inner.start - range.start > 2, range.end - inner.end > 2);
                    let dash = |is: bool| if is { "-" } else { "" };
                    format!("{{#{} {}#}}", dash(left), dash(right))
                }
                _ => text.to_owned(),
            }
        };
        segments.map(text).collect()
    }

    /// The macros that are called in some segments.
    pub(crate) fn calls(&self, segments: Range<usize>) -> impl DoubleEndedIterator<Item = &Call> {
        let within = self.calls.iter().filter(move |(segment, _)| segments.contains(segment));
        within.map(|(_, call)| call)
    }

    /// Every name that some segments may read from what templates are given; [`EVERYTHING`] when
    /// they take a table of them as a whole.
    pub(crate) fn names(&self, segments: Range<usize>) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut bound: Vec<Vec<&str>> = Vec::new();
        for segment in segments {
            let tokens = self.tokens(segment);
            let is_statement = self.segments[segment].kind == Kind::Statement;
            let statement = if is_statement { tokens.word(0) } else { "" };
            let binds = tokens.binds(statement);
            let first = match statement {
                "" => 0,
                // What comes after the last round has no loop variable.
                "else" => {
                    bound.last_mut().into_iter().for_each(Vec::clear);
                    1
                }
                "filter" => 2,
                // Their words are names of templates, macros and blocks.
                "block" | "extends" | "import" | "include" => tokens.tokens.len(),
                word if word.starts_with("end") => {
                    bound.pop();
                    tokens.tokens.len()
                }
                _ => 1,
            };
            for at in first..tokens.tokens.len() {
                let (before, after) = (tokens.sign(at.wrapping_sub(1)), tokens.sign(at + 1));
                let word = tokens.word(at);
                let is_read =
                    !matches!(after, "(" | "=" | "::") && !matches!(before, "." | "|" | "::");
                let is_bound = || bound.iter().flatten().any(|name| *name == word);
                let is_own = WORDS.contains(&word) || binds.contains(&at) || is_bound();
                if word.is_empty() || !is_read || is_own {
                    continue;
                }
                let name = match (word, after) {
                    ("vars", ".") => tokens.word(at + 2),
                    ("vars", "[") if tokens.is_string(at + 2) => tokens.string(at + 2),
                    ("vars" | "__tera_context", _) => EVERYTHING,
                    (name, _) => name,
                };
                names.insert(name.to_owned());
            }
            if matches!(statement, "block" | "filter" | "for" | "if" | "macro") {
                bound.push(binds.into_iter().map(|at| tokens.word(at)).collect());
            }
        }
        names
    }
}

/// The tokens of a tag.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    pub(crate) text: &'a str,
    pub(crate) tokens: &'a [Token],
}

impl<'a> Tokens<'a> {
    pub(crate) fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| &self.text[token.range.clone()])
    }

    fn of_kind(&self, at: usize, kind: TokenKind) -> &'a str {
        let is = self.tokens.get(at).is_some_and(|token| token.kind == kind);
        if is { self.text(at) } else { "" }
    }

    /// The word at a place; empty when there is none.
    pub(crate) fn word(&self, at: usize) -> &'a str {
        self.of_kind(at, TokenKind::Word)
    }

    /// The sign at a place; empty when there is none.
    pub(crate) fn sign(&self, at: usize) -> &'a str {
        self.of_kind(at, TokenKind::Sign)
    }

    pub(crate) fn is_word(&self, at: usize) -> bool {
        !self.word(at).is_empty()
    }

    pub(crate) fn is_string(&self, at: usize) -> bool {
        !self.of_kind(at, TokenKind::String).is_empty()
    }

    /// What the string at a place says.
    pub(crate) fn string(&self, at: usize) -> &'a str {
        let quoted = self.of_kind(at, TokenKind::String);
        quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default()
    }

    /// Where a token begins, or where the last one ends.
    pub(crate) fn place(&self, at: usize) -> usize {
        let end = || self.tokens.last().map_or(0, |token| token.range.end);
        self.tokens.get(at).map_or_else(end, |token| token.range.start)
    }

    /// The bracket that closes the one at `open`.
    pub(crate) fn closing(&self, open: usize) -> Result<usize, SyntaxError> {
        let mut depth = 0usize;
        for at in open..self.tokens.len() {
            match self.sign(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(at);
                    }
                }
                _ => {}
            }
        }
        let message = format!("this `{}` is not closed", self.sign(open));
        Err(SyntaxError::new(self.place(open), message))
    }

    /// The stretches of `range` between commas (or other signs) outside of brackets.
    pub(crate) fn split(&self, range: Range<usize>, by: &str) -> Vec<Range<usize>> {
        let (mut parts, mut start, mut depth) = (Vec::new(), range.start, 0usize);
        for at in range.clone() {
            match self.sign(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                sign if depth == 0 && sign == by => {
                    parts.push(start..at);
                    start = at + 1;
                }
                _ => {}
            }
        }
        if start < range.end {
            parts.push(start..range.end);
        }
        parts
    }

    /// The first of these words in `range` outside of brackets.
    pub(crate) fn find(&self, range: Range<usize>, word: &str) -> Option<usize> {
        let mut depth = 0usize;
        for at in range {
            match self.sign(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ if depth == 0 && self.word(at) == word && !self.is_attribute(at) => {
                    return Some(at);
                }
                _ => {}
            }
        }
        None
    }

    /// Where the head of a `for` or `macro` has the names that its body has of its own.
    fn binds(&self, statement: &str) -> Vec<usize> {
        match statement {
            "for" if self.sign(2) == "," => vec![1, 3],
            "for" => vec![1],
            "macro" => {
                let parts = self.closing(2).map(|end| self.split(3..end, ",")).unwrap_or_default();
                parts.into_iter().map(|part| part.start).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether a token follows a dot.
    pub(crate) fn is_attribute(&self, at: usize) -> bool {
        at > 0 && self.sign(at - 1) == "."
    }

    /// Whether there is nothing between a token and the one before it.
    pub(crate) fn is_adjacent(&self, at: usize) -> bool {
        at > 0 && self.tokens[at - 1].range.end == self.tokens[at].range.start
    }

    /// `macro name(a, b=1)`
    fn signature(&self) -> Result<(String, Vec<Parameter>), SyntaxError> {
        if self.word(1).is_empty() || self.sign(2) != "(" {
            let message = "a macro is written `{% macro name(parameters) %}`";
            return Err(SyntaxError::new(self.place(1), message));
        }
        let mut parameters: Vec<Parameter> = Vec::new();
        for part in self.split(3..self.closing(2)?, ",") {
            let name = self.word(part.start).to_owned();
            let default = self.sign(part.start + 1) == "=";
            let whole = part.len() == 1 || (default && part.len() > 2);
            if name.is_empty() || !whole {
                return Err(SyntaxError::new(self.place(part.start), "this is no parameter"));
            }
            if parameters.iter().any(|parameter| parameter.name == name) {
                let message = format!("there are two parameters `{name}`");
                return Err(SyntaxError::new(self.place(part.start), message));
            }
            parameters.push(Parameter { name, optional: default });
        }
        Ok((self.word(1).to_owned(), parameters))
    }

    /// The call whose namespace is at `at`.
    fn call(&self, at: usize) -> Call {
        let open = at + 3;
        let (mut positional, mut named) = (Vec::new(), Vec::new());
        let end = self.closing(open).unwrap_or(self.tokens.len());
        for part in self.split(open + 1..end, ",") {
            let place = self.place(part.start);
            match self.sign(part.start + 1) {
                "=" => named.push((self.text(part.start).to_owned(), place)),
                _ => positional.push(place),
            }
        }
        let (namespace, name) = (self.text(at).to_owned(), self.text(at + 2).to_owned());
        Call { namespace, name, at: self.place(at + 2), positional, named }
    }
}
