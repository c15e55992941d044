//! Writes a template anew, so that Tera 1 understands it.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lexer::{Kind, SyntaxError, TokenKind};
use super::map::Map;
use super::outline::{Outline, Parameter, Tokens};

/// Names of what the rewriting needs; nobody else calls these.
pub(crate) const JSON: &str = "__json";
pub(crate) const LIST: &str = "__list";
pub(crate) const MAP: &str = "__map";
pub(crate) const NONE: &str = "__none";
pub(crate) const PAIRS: &str = "__pairs";

/// Stands for a default that Tera's grammar has no room for.
pub(crate) const DEFAULT: &str = "\u{e002}";

/// A template, or some segments of one, that Tera understands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rewritten {
    pub(crate) text: String,
    /// Back to the author's text.
    pub(crate) map: Map,
    /// The expressions behind the defaults that stand for them.
    pub(crate) defaults: Vec<Default>,
}

/// What a parameter of a macro is when it is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Default {
    pub(crate) of_macro: String,
    pub(crate) parameter: String,
    pub(crate) expression: String,
}

/// The parameters of what can be called.
pub(crate) struct Signatures<'a> {
    /// Those of a macro, by namespace and name.
    pub(crate) of_macro: &'a dyn Fn(&str, &str) -> Option<Vec<Parameter>>,
    /// The names of a function's, of which so many are given without one.
    pub(crate) of_function: fn(&str, usize) -> Option<&'static [&'static str]>,
    /// The names of a filter's.
    pub(crate) of_filter: fn(&str) -> Option<&'static [&'static str]>,
}

/// Rewrites some segments of a template; of all of them, with imports taken to the front. With
/// `marks`, every line of text says that it is of the template of this number, see [`mark`].
pub(crate) fn rewrite(
    outline: &Outline<'_>,
    segments: Range<usize>,
    signatures: &Signatures<'_>,
    marks: Option<usize>,
) -> Result<Rewritten, SyntaxError> {
    let (before, defaults) = (Vec::new(), Vec::new());
    let mut rewriter = Rewriter { outline, signatures, marks, made: 0, before, defaults };
    let mut out = Writer::new(outline.text);
    let whole = segments == (0..outline.segments.len());
    let extends = segments.clone().find(|at| outline.tokens(*at).word(0) == "extends");
    if whole && extends.is_none() {
        rewriter.imports(&mut out);
    }
    for at in segments {
        rewriter.segment(at, &mut out)?;
        if whole && extends == Some(at) {
            rewriter.imports(&mut out);
        }
    }
    Ok(Rewritten { text: out.text, map: out.map, defaults: rewriter.defaults })
}

/// A text that is made of another.
struct Writer<'a> {
    source: &'a str,
    text: String,
    map: Map,
}

impl<'a> Writer<'a> {
    fn new(source: &'a str) -> Writer<'a> {
        Writer { source, text: String::new(), map: Map::default() }
    }

    fn copy(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.map.copied(self.text.len(), range.clone());
            self.text.push_str(&self.source[range]);
        }
    }

    /// Puts something in for the sake of what is at `at` in the source.
    fn put(&mut self, text: &str, at: usize) {
        if !text.is_empty() {
            self.map.put_in(self.text.len(), at);
            self.text.push_str(text);
        }
    }

    fn append(&mut self, other: &Writer<'_>) {
        self.map.take_in(self.text.len(), &other.map);
        self.text.push_str(&other.text);
    }
}

struct Rewriter<'a> {
    outline: &'a Outline<'a>,
    signatures: &'a Signatures<'a>,
    marks: Option<usize>,
    /// How many names were made up.
    made: usize,
    /// What must come before the tag at hand.
    before: Vec<Writer<'a>>,
    defaults: Vec<Default>,
}

type Done = Result<(), SyntaxError>;

impl<'a> Rewriter<'a> {
    fn imports(&self, out: &mut Writer<'_>) {
        for import in &self.outline.imports {
            let (file, alias) = (&import.file, &import.alias);
            let quote = if file.contains('"') { '\'' } else { '"' };
            out.put(&format!("{{% import {quote}{file}{quote} as {alias} %}}"), import.at);
        }
        if !self.outline.imports.is_empty() {
            // Tera takes the white space after an import away.
            out.put("{# #}", 0);
        }
    }

    fn segment(&mut self, at: usize, out: &mut Writer<'a>) -> Done {
        let segment = &self.outline.segments[at];
        match segment.kind {
            Kind::Text => match self.marks {
                Some(template) => {
                    let marked = mark(self.outline.text, segment.range.clone(), template);
                    out.put(&marked, segment.range.start);
                }
                None => out.copy(segment.range.clone()),
            },
            Kind::Comment | Kind::Raw => out.copy(segment.range.clone()),
            Kind::Shielded => self.shielded(segment.range.clone(), out),
            Kind::Expression | Kind::Statement => {
                let tokens = self.outline.tokens(at);
                let mut tag = Writer::new(self.outline.text);
                if segment.kind == Kind::Expression {
                    // White space before it that it trims must still touch it.
                    let trims = self.outline.text[segment.range.clone()].starts_with("{{-");
                    if let Some(template) = self.marks.filter(|_| !trims) {
                        out.put(&mark_at(segment.range.start, 0, template), segment.range.start);
                    }
                    self.expression(at, &tokens, &mut tag)?;
                } else {
                    self.statement(at, &tokens, &mut tag)?;
                }
                let mut first = true;
                for before in std::mem::take(&mut self.before) {
                    // What trims the text before the tag must still touch it.
                    let trims =
                        first && self.outline.text[segment.range.clone()].as_bytes()[2] == b'-';
                    let open = if trims { "{%- " } else { "{% " };
                    out.put(open, segment.range.start);
                    out.append(&before);
                    first = false;
                }
                out.append(&tag);
            }
        }
        Ok(())
    }

    /// Text that looks like a template and is none.
    fn shielded(&self, range: Range<usize>, out: &mut Writer<'_>) {
        let bytes = self.outline.text.as_bytes();
        let mut from = range.start;
        for at in range.clone() {
            let opens = bytes[at] == b'{' && matches!(bytes.get(at + 1), Some(b'{' | b'%' | b'#'));
            if opens {
                out.copy(from..at);
                out.put("{{ \"{\" }}", at);
                from = at + 1;
            }
        }
        out.copy(from..range.end);
    }

    fn expression(&mut self, at: usize, tokens: &Tokens<'a>, out: &mut Writer<'a>) -> Done {
        let segment = &self.outline.segments[at];
        let all = 0..tokens.tokens.len();
        let Some(condition) = tokens.find(all.clone(), "if") else {
            out.copy(segment.range.start..tokens.place(0).max(segment.inner.start));
            self.value(tokens, all, out)?;
            return self.close(at, tokens, out);
        };
        let otherwise = tokens.find(condition + 1..all.end, "else");
        let text = &self.outline.text[segment.range.clone()];
        let (left, right) = (text.as_bytes()[2] == b'-', text.ends_with("-}}"));
        out.put(if left { "{%- if " } else { "{% if " }, segment.range.start);
        self.value(tokens, condition + 1..otherwise.unwrap_or(all.end), out)?;
        out.put(" %}{{ ", segment.range.start);
        self.value(tokens, 0..condition, out)?;
        out.put(" }}", segment.range.start);
        if let Some(otherwise) = otherwise {
            out.put("{% else %}{{ ", tokens.place(otherwise));
            self.value(tokens, otherwise + 1..all.end, out)?;
            out.put(" }}", segment.range.start);
        }
        out.put("{% endif ", segment.range.end);
        self.lines(at, out);
        out.put(if right { "-%}" } else { "%}" }, segment.range.end);
        Ok(())
    }

    /// The end of a tag, with as many lines as it had.
    fn close(&self, at: usize, tokens: &Tokens<'_>, out: &mut Writer<'_>) -> Done {
        let segment = &self.outline.segments[at];
        let last = tokens.tokens.last().map_or(segment.inner.start, |token| token.range.end);
        out.copy(last..segment.inner.end);
        self.lines(at, out);
        out.copy(segment.inner.end..segment.range.end);
        Ok(())
    }

    /// Puts in the line ends that got lost.
    fn lines(&self, at: usize, out: &mut Writer<'_>) {
        let count = |text: &str| text.matches('\n').count();
        let before: usize = self.before.iter().map(|before| count(&before.text)).sum();
        let had = count(&self.outline.text[self.outline.segments[at].range.clone()]);
        let lost = had.saturating_sub(count(&out.text) + before);
        out.put(&"\n".repeat(lost), self.outline.segments[at].range.end);
    }

    fn statement(&mut self, at: usize, tokens: &Tokens<'a>, out: &mut Writer<'a>) -> Done {
        let segment = &self.outline.segments[at];
        let end = tokens.tokens.len();
        let text = &self.outline.text[segment.range.clone()];
        if tokens.word(0) == "import" {
            let left = if text.as_bytes()[2] == b'-' { "{#- " } else { "{# " };
            out.put(left, segment.range.start);
            self.lines(at, out);
            out.put(if text.ends_with("-%}") { "-#}" } else { "#}" }, segment.range.end);
            return Ok(());
        }
        let from = match tokens.word(0) {
            "if" | "elif" => 1,
            "set" | "set_global" => 3,
            "for" => return self.for_loop(at, tokens, out),
            "macro" => return self.macro_head(at, tokens, out),
            _ => end,
        };
        out.copy(segment.range.start..tokens.place(from.min(end)).max(segment.inner.start));
        match tokens.word(0) {
            // Nothing can be put before it.
            "elif" => self.plain(tokens, from..end, out)?,
            _ => self.value(tokens, from.min(end)..end, out)?,
        }
        self.close(at, tokens, out)
    }

    /// `for a, b in pairs` goes over maps in Tera; here it goes over lists of pairs as well.
    fn for_loop(&mut self, at: usize, tokens: &Tokens<'a>, out: &mut Writer<'a>) -> Done {
        let segment = &self.outline.segments[at];
        let end = tokens.tokens.len();
        let within = tokens.find(1..end, "in").unwrap_or(end);
        let two = within == 4 && tokens.sign(2) == ",";
        if !two {
            let from = (within + 1).min(end);
            out.copy(segment.range.start..tokens.place(from));
            self.value(tokens, from..end, out)?;
            return self.close(at, tokens, out);
        }
        let (first, second) = (tokens.word(1), tokens.word(3));
        let pair = self.name("pair");
        out.copy(segment.range.start..tokens.place(1));
        out.put(&format!("{pair} in {PAIRS}(v="), tokens.place(1));
        self.value(tokens, within + 1..end, out)?;
        out.put(
            &format!(") %}}{{% set {first} = {pair}[0] %}}{{% set {second} = {pair}[1] "),
            tokens.place(1),
        );
        self.lines(at, out);
        out.copy(segment.inner.end..segment.range.end);
        Ok(())
    }

    /// `macro name(a, b={})`, of whose defaults Tera knows only literals.
    fn macro_head(&mut self, at: usize, tokens: &Tokens<'a>, out: &mut Writer<'a>) -> Done {
        let segment = &self.outline.segments[at];
        out.copy(segment.range.start..tokens.place(2));
        let closing = tokens.closing(2)?;
        out.put("(", tokens.place(2));
        for (number, part) in tokens.split(3..closing, ",").into_iter().enumerate() {
            out.put(if number > 0 { ", " } else { "" }, tokens.place(part.start));
            let default = part.start + 2..part.end;
            let plain = match default.len() {
                1 => {
                    let kind = tokens.tokens[default.start].kind;
                    let word = tokens.text(default.start);
                    kind == TokenKind::String
                        || kind == TokenKind::Number
                        || matches!(word, "true" | "false" | "True" | "False")
                }
                2 => {
                    tokens.sign(default.start) == "-"
                        && tokens.tokens[default.start + 1].kind == TokenKind::Number
                }
                _ => part.len() == 1,
            };
            if plain {
                let last = &tokens.tokens[part.end - 1];
                out.copy(tokens.place(part.start)..last.range.end);
                continue;
            }
            let mut value = Writer::new(self.outline.text);
            self.value(tokens, default.clone(), &mut value)?;
            let (parameter, at) = (tokens.word(part.start).to_owned(), tokens.place(part.start));
            out.put(&format!("{parameter}=\"{DEFAULT}\""), at);
            let of_macro = tokens.word(1).to_owned();
            self.defaults.push(Default { of_macro, parameter, expression: value.text });
        }
        out.put(")", tokens.place(closing));
        out.copy(tokens.tokens[closing].range.end..segment.inner.end);
        self.lines(at, out);
        out.copy(segment.inner.end..segment.range.end);
        Ok(())
    }

    /// A value that may be `x if y else z`.
    fn value(&mut self, tokens: &Tokens<'a>, range: Range<usize>, out: &mut Writer<'a>) -> Done {
        let Some(condition) = tokens.find(range.clone(), "if") else {
            return self.plain(tokens, range, out);
        };
        let otherwise = tokens.find(condition + 1..range.end, "else");
        let at = tokens.place(range.start);
        let name = self.name("chosen");
        let mut before = Writer::new(self.outline.text);
        before.put("if ", at);
        self.value(tokens, condition + 1..otherwise.unwrap_or(range.end), &mut before)?;
        before.put(&format!(" %}}{{% set {name} = "), at);
        self.value(tokens, range.start..condition, &mut before)?;
        before.put(&format!(" %}}{{% else %}}{{% set {name} = "), at);
        match otherwise {
            Some(otherwise) => self.value(tokens, otherwise + 1..range.end, &mut before)?,
            None => before.put("\"\"", at),
        }
        before.put(" %}{% endif %}", at);
        self.before.push(before);
        out.put(&name, at);
        Ok(())
    }

    fn name(&mut self, what: &str) -> String {
        self.made += 1;
        format!("__{what}{}", self.made)
    }

    fn plain(&mut self, tokens: &Tokens<'a>, range: Range<usize>, out: &mut Writer<'a>) -> Done {
        let mut at = range.start;
        while at < range.end {
            if at > range.start {
                self.gap(tokens, at, out);
            }
            at = self.token(tokens, at, range.start, out)?;
        }
        Ok(())
    }

    /// What is between a token and the one before it.
    fn gap(&self, tokens: &Tokens<'_>, at: usize, out: &mut Writer<'_>) {
        if at > 0 {
            out.copy(tokens.tokens[at - 1].range.end..tokens.place(at));
        }
    }

    /// Writes what begins at `at`, gives where it goes on.
    fn token(
        &mut self,
        tokens: &Tokens<'a>,
        at: usize,
        start: usize,
        out: &mut Writer<'a>,
    ) -> Result<usize, SyntaxError> {
        let copy = |out: &mut Writer<'_>, at: usize| out.copy(tokens.tokens[at].range.clone());
        let before = if at > start { at - 1 } else { usize::MAX };
        let word = tokens.word(at);
        match tokens.sign(at) {
            "{" => return self.map(tokens, at, out),
            "[" => {
                let is_index = at > start
                    && tokens.is_adjacent(at)
                    && (tokens.is_word(before) || tokens.sign(before) == "]");
                if !is_index {
                    return self.array(tokens, at, out);
                }
            }
            _ => {}
        }
        if word.is_empty() {
            copy(out, at);
            return Ok(at + 1);
        }
        if tokens.sign(at + 1) == "::" && tokens.sign(at + 3) == "(" {
            let (namespace, name) = (word, tokens.word(at + 2));
            let parameters = (self.signatures.of_macro)(namespace, name);
            let names = parameters.map(|all| all.into_iter().map(|one| one.name).collect());
            out.copy(tokens.place(at)..tokens.tokens[at + 3].range.end);
            return self.arguments(tokens, at + 3, &format!("{namespace}::{name}"), names, out);
        }
        let is_test = matches!(tokens.word(before), "is")
            || (tokens.word(before) == "not" && before > start && tokens.word(before - 1) == "is");
        if tokens.sign(at + 1) == "(" && !tokens.is_attribute(at) {
            let owned = |names: Option<&'static [&'static str]>| {
                names.map(|names| names.iter().map(|name| (*name).to_owned()).collect())
            };
            let own = || (self.signatures.of_macro)("self", word);
            let closing = tokens.closing(at + 1)?;
            let parts = tokens.split(at + 2..closing, ",");
            let unnamed = parts.iter().filter(|part| tokens.sign(part.start + 1) != "=").count();
            let function = (self.signatures.of_function)(word, unnamed);
            let names: Option<Vec<String>> = if is_test {
                copy(out, at);
                return self.test(tokens, at + 1, out);
            } else if tokens.sign(before) == "|" {
                owned((self.signatures.of_filter)(word))
            } else if function.is_some() {
                owned(function)
            } else if let Some(own) = own() {
                out.put("self::", tokens.place(at));
                Some(own.into_iter().map(|parameter| parameter.name).collect())
            } else {
                None
            };
            out.copy(tokens.place(at)..tokens.tokens[at + 1].range.end);
            return self.arguments(tokens, at + 1, word, names, out);
        }
        let is_nothing = matches!(word, "none" | "None" | "null")
            && !tokens.is_attribute(at)
            && !matches!(tokens.sign(at + 1), "=" | "." | "[")
            && !is_test
            && tokens.sign(before) != "|";
        match is_nothing {
            true => out.put(&format!("{NONE}()"), tokens.place(at)),
            false => copy(out, at),
        }
        Ok(at + 1)
    }

    /// The arguments of a test, which have no names.
    fn test(
        &mut self,
        tokens: &Tokens<'a>,
        open: usize,
        out: &mut Writer<'a>,
    ) -> Result<usize, SyntaxError> {
        let closing = tokens.closing(open)?;
        out.copy(tokens.tokens[open].range.clone());
        self.list(tokens, open + 1..closing, out, |_, _, _| Ok(0))?;
        self.gap(tokens, closing, out);
        out.copy(tokens.tokens[closing].range.clone());
        Ok(closing + 1)
    }

    /// Values with commas in between; `head` writes what comes before each and says how many
    /// tokens of it are done.
    fn list(
        &mut self,
        tokens: &Tokens<'a>,
        range: Range<usize>,
        out: &mut Writer<'a>,
        mut head: impl FnMut(usize, Range<usize>, &mut Writer<'a>) -> Result<usize, SyntaxError>,
    ) -> Done {
        for (number, part) in tokens.split(range, ",").into_iter().enumerate() {
            if number > 0 {
                self.gap(tokens, part.start - 1, out);
                out.copy(tokens.tokens[part.start - 1].range.clone());
            }
            self.gap(tokens, part.start, out);
            let done = head(number, part.clone(), out)?;
            self.value(tokens, part.start + done..part.end, out)?;
        }
        Ok(())
    }

    /// The arguments of a call, from its bracket on.
    fn arguments(
        &mut self,
        tokens: &Tokens<'a>,
        open: usize,
        callee: &str,
        names: Option<Vec<String>>,
        out: &mut Writer<'a>,
    ) -> Result<usize, SyntaxError> {
        let closing = tokens.closing(open)?;
        let mut given = Vec::new();
        self.list(tokens, open + 1..closing, out, |number, part, out| {
            let at = tokens.place(part.start);
            if tokens.sign(part.start + 1) == "=" && tokens.is_word(part.start) {
                given.push(tokens.word(part.start).to_owned());
                out.copy(
                    at..tokens.place(part.start + 2).max(tokens.tokens[part.start + 1].range.end),
                );
                return Ok(2);
            }
            let Some(names) = &names else {
                // Tera has functions and filters whose parameters are not known here.
                let message =
                    format!("there is no `{callee}` whose arguments could go without names");
                let error = SyntaxError::new(at, message).code("render/arguments");
                return Err(error.hint("write `name=value`"));
            };
            let Some(name) = names.get(number) else {
                return Err(too_many(callee, names, at));
            };
            if given.contains(name) {
                let message = format!("`{callee}` is given its argument `{name}` twice");
                return Err(SyntaxError::new(at, message).code("render/arguments"));
            }
            given.push(name.clone());
            out.put(&format!("{name}="), at);
            Ok(0)
        })?;
        self.gap(tokens, closing, out);
        out.copy(tokens.tokens[closing].range.clone());
        Ok(closing + 1)
    }

    fn map(
        &mut self,
        tokens: &Tokens<'a>,
        open: usize,
        out: &mut Writer<'a>,
    ) -> Result<usize, SyntaxError> {
        let closing = tokens.closing(open)?;
        let at = tokens.place(open);
        if let Some(value) = constant(tokens, open..closing + 1) {
            out.put(&json_call(&value), at);
            return Ok(closing + 1);
        }
        out.put(&format!("{MAP}("), at);
        for (number, entry) in tokens.split(open + 1..closing, ",").into_iter().enumerate() {
            let parts = tokens.split(entry.clone(), ":");
            let [key, value] = &parts[..] else {
                let error =
                    SyntaxError::new(tokens.place(entry.start), "this is no entry of a map");
                return Err(error.hint("write `{\"key\": value}`"));
            };
            let comma = if number > 0 { ", " } else { "" };
            out.put(&format!("{comma}k{number}="), tokens.place(key.start));
            self.value(tokens, key.clone(), out)?;
            out.put(&format!(", v{number}="), tokens.place(value.start));
            self.value(tokens, value.clone(), out)?;
        }
        out.put(")", tokens.place(closing));
        Ok(closing + 1)
    }

    fn array(
        &mut self,
        tokens: &Tokens<'a>,
        open: usize,
        out: &mut Writer<'a>,
    ) -> Result<usize, SyntaxError> {
        let closing = tokens.closing(open)?;
        let nested = |at: usize| matches!(tokens.sign(at), "[" | "{");
        let parts = tokens.split(open + 1..closing, ",");
        if parts.iter().any(|part| nested(part.start))
            && let Some(value) = constant(tokens, open..closing + 1)
        {
            out.put(&json_call(&value), tokens.place(open));
            return Ok(closing + 1);
        }
        out.copy(tokens.tokens[open].range.clone());
        for (number, part) in parts.into_iter().enumerate() {
            if number > 0 {
                out.put(",", tokens.place(part.start));
            }
            self.gap(tokens, part.start, out);
            if tokens.sign(part.start) == "[" && tokens.closing(part.start)? + 1 == part.end {
                self.inner_array(tokens, part, out)?;
            } else {
                self.value(tokens, part, out)?;
            }
        }
        self.gap(tokens, closing, out);
        out.copy(tokens.tokens[closing].range.clone());
        Ok(closing + 1)
    }

    /// An array in an array, for which Tera's grammar has no room.
    fn inner_array(
        &mut self,
        tokens: &Tokens<'a>,
        range: Range<usize>,
        out: &mut Writer<'a>,
    ) -> Done {
        if let Some(value) = constant(tokens, range.clone()) {
            out.put(&json_call(&value), tokens.place(range.start));
            return Ok(());
        }
        out.put(&format!("{LIST}("), tokens.place(range.start));
        let parts = tokens.split(range.start + 1..range.end - 1, ",");
        for (number, part) in parts.into_iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            out.put(&format!("{comma}a{number}="), tokens.place(part.start));
            self.value(tokens, part, out)?;
        }
        out.put(")", tokens.place(range.end - 1));
        Ok(())
    }
}

/// Text whose lines say where they come from: before the first sign of each that is not white space
/// stand the number of the template, the place and the length, between two signs nobody writes.
pub(crate) fn mark(source: &str, range: Range<usize>, template: usize) -> String {
    let (mut marked, mut at) = (String::new(), range.start);
    for line in source[range].split_inclusive('\n') {
        let blank = line.len() - line.trim_start().len();
        marked.push_str(&line[..blank]);
        if blank < line.len() {
            marked.push_str(&mark_at(at + blank, line.len() - blank, template));
            marked.push_str(&line[blank..]);
        }
        at += line.len();
    }
    marked
}

/// A mark for a stretch of a template.
pub(crate) fn mark_at(from: usize, length: usize, template: usize) -> String {
    format!("{MARK}{template}:{from}:{length}{MARK_END}")
}

/// What a mark begins with.
pub(crate) const MARK: char = '\u{e000}';
/// What it ends with.
pub(crate) const MARK_END: char = '\u{e001}';

/// Too many arguments are given to `callee`.
pub(crate) fn too_many<S: AsRef<str>>(callee: &str, names: &[S], at: usize) -> SyntaxError {
    let names: Vec<&str> = names.iter().map(S::as_ref).collect();
    let message = match names.len() {
        0 => format!("`{callee}` takes no arguments"),
        1 => format!("`{callee}` takes one argument: {}", names[0]),
        many => format!("`{callee}` takes {many} arguments: {}", names.join(", ")),
    };
    SyntaxError::new(at, message).code("render/arguments")
}

/// The value of an expression that is one without being looked up.
fn constant(tokens: &Tokens<'_>, range: Range<usize>) -> Option<Value> {
    let first = range.start;
    let token = tokens.tokens.get(first)?;
    let close = |open: usize| tokens.closing(open).ok().filter(|end| end + 1 == range.end);
    match (token.kind, tokens.text(first)) {
        (TokenKind::String, _) if range.len() == 1 => Some(tokens.string(first).into()),
        (TokenKind::Number, text) if range.len() == 1 => number(text),
        (TokenKind::Sign, "-") if range.len() == 2 => {
            let text = tokens.text(first + 1);
            tokens.tokens.get(first + 1).filter(|token| token.kind == TokenKind::Number)?;
            number(&format!("-{text}"))
        }
        (TokenKind::Word, "true" | "True") if range.len() == 1 => Some(true.into()),
        (TokenKind::Word, "false" | "False") if range.len() == 1 => Some(false.into()),
        (TokenKind::Word, "none" | "None" | "null") if range.len() == 1 => Some(Value::Null),
        (TokenKind::Sign, "[") => {
            let parts = tokens.split(first + 1..close(first)?, ",");
            parts.into_iter().map(|part| constant(tokens, part)).collect()
        }
        (TokenKind::Sign, "{") => {
            let entries = tokens.split(first + 1..close(first)?, ",");
            let entry = |entry: Range<usize>| {
                let parts = tokens.split(entry, ":");
                let [key, value] = &parts[..] else { return None };
                let Some(Value::String(key)) = constant(tokens, key.clone()) else { return None };
                Some((key, constant(tokens, value.clone())?))
            };
            entries.into_iter().map(entry).collect::<Option<_>>().map(Value::Object)
        }
        _ => None,
    }
}

fn number(text: &str) -> Option<Value> {
    let integer = text.parse::<i64>().ok().map(Value::from);
    integer.or_else(|| text.parse::<f64>().ok().map(Value::from))
}

/// A call that gives a constant. Tera's strings know no escapes, but JSON's do.
fn json_call(value: &Value) -> String {
    format!("{JSON}(v='{}')", value.to_string().replace('\'', "\\u0027"))
}
