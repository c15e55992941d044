//! Matches span names, exactly or by glob, and words what was found instead.

use std::collections::BTreeMap;

use globset::GlobBuilder;
use regex::{Regex, RegexBuilder};

/// How many names are listed before the rest is only counted.
const LISTED: usize = 8;

/// What every service's lifecycle spans are called besides their own names.
const ALIASES: [&str; 3] = ["container.start", "container.exec", "container.stop"];

/// A name as an expectation gives it: exact, or a glob when it contains `*`, `?`, `[` or braces with
/// a comma between them.
///
/// Braces without a comma are letters, as in a shell, so the route `GET /items/{id}` can be written
/// down as it is. A name always matches itself.
pub(super) struct Pattern<'a> {
    pub(super) text: &'a str,
    glob: Option<Regex>,
}

impl<'a> Pattern<'a> {
    /// A glob that does not compile is an exact name.
    pub(super) fn new(text: &'a str) -> Pattern<'a> {
        Pattern { text, glob: has_signs(text).then(|| of_characters(text)).flatten() }
    }

    pub(super) fn is_glob(&self) -> bool {
        self.glob.is_some()
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        self.text == name || self.glob.as_ref().is_some_and(|glob| glob.is_match(name))
    }

    /// Whether it matches a lifecycle span of this name, given that it may look at those.
    pub(super) fn matches_lifecycle(&self, name: &str) -> bool {
        let by_alias = self.text.starts_with("container.");
        self.matches(name) || by_alias && alias(name).is_some_and(|alias| self.matches(alias))
    }

    /// Whether it can only be meant for lifecycle spans, or for them as well as for others.
    pub(super) fn is_reserved(&self) -> bool {
        self.text.starts_with("clnrm.")
            || ALIASES.contains(&self.text)
            || self.is_glob() && self.text.starts_with("container.")
    }
}

/// Why a name with the signs of a glob is none, if so.
pub(crate) fn invalid_glob(name: &str) -> Option<String> {
    if !has_signs(name) {
        return None;
    }
    let built = GlobBuilder::new(&plain_braces(name)).literal_separator(false).build();
    built.err().map(|error| error.kind().to_string())
}

/// Whether a name has signs of a glob.
fn has_signs(name: &str) -> bool {
    name.contains(['*', '?', '[']) || plain_braces(name).replace("[{]", "").contains('{')
}

/// A glob as a regular expression of characters; `globset` itself matches bytes.
fn of_characters(glob: &str) -> Option<Regex> {
    let glob = GlobBuilder::new(&plain_braces(glob)).literal_separator(false).build().ok()?;
    let of_bytes = glob.regex();
    let pattern = of_bytes.strip_prefix("(?-u)").unwrap_or(of_bytes);
    // Characters beyond ASCII are written as their bytes: `\xC3\xA9`.
    let mut text = Vec::new();
    let mut rest = pattern.as_bytes();
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', b'x', high, low, tail @ ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                text.push(u8::from_str_radix(digits, 16).ok()?);
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] => {
                text.extend([b'\\', *escaped]);
                rest = tail;
            }
            _ => {
                text.push(*first);
                rest = tail;
            }
        }
    }
    let pattern = String::from_utf8(text).ok()?;
    RegexBuilder::new(&pattern).dot_matches_new_line(true).build().ok()
}

/// A glob in which braces that hold no comma are letters.
fn plain_braces(glob: &str) -> String {
    let mut open = Vec::new();
    let mut plain = Vec::new();
    let mut in_class = false;
    let mut letters = glob.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            // What follows is a letter already.
            '\\' => drop(letters.next()),
            '[' => in_class = true,
            ']' => in_class = false,
            '{' if !in_class => open.push((at, false)),
            ',' if !in_class => {
                if let Some((_, has_comma)) = open.last_mut() {
                    *has_comma = true;
                }
            }
            '}' if !in_class => {
                if let Some((start, false)) = open.pop() {
                    plain.extend([start, at]);
                }
            }
            _ => {}
        }
    }
    let letter = |(at, letter): (usize, char)| match plain.contains(&at) {
        true => format!("[{letter}]"),
        false => letter.to_string(),
    };
    glob.char_indices().map(letter).collect()
}

/// What to say where no span has the wanted name: the most similar name, and all names there are.
pub(super) fn instead_of(wanted: &str, names: &BTreeMap<&str, usize>) -> Option<String> {
    let there_are = format!("there are {}", listed(names));
    match most_similar(wanted, names.keys().copied()) {
        _ if names.is_empty() => None,
        Some(similar) => Some(format!("did you mean `{similar}`? {there_are}")),
        None => Some(there_are),
    }
}

/// Names with how many spans bear them, sorted: `a` (1), `b` (2).
pub(super) fn listed(names: &BTreeMap<&str, usize>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut texts: Vec<_> =
        names.iter().take(LISTED).map(|(name, count)| format!("`{name}` ({count})")).collect();
    if names.len() > LISTED {
        let more = plural((names.len() - LISTED) as u64, "more name");
        texts.push(format!("and {more}"));
    }
    texts.join(", ")
}

/// Counts how often each name occurs.
pub(super) fn tally<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut tally = BTreeMap::new();
    for name in names {
        *tally.entry(name).or_insert(0) += 1;
    }
    tally
}

/// `1 span`, `2 spans`.
pub(super) fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The closest by edit distance, if at least half of it is the same.
fn most_similar<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(wanted, name), name))
        .filter(|(similarity, _)| *similarity >= 0.5)
        .max_by(|(a, first), (b, second)| a.total_cmp(b).then(second.cmp(first)))
        .map(|(_, name)| name)
}

/// The alias of a service's lifecycle span.
fn alias(name: &str) -> Option<&'static str> {
    let (service, phase) = name.rsplit_once('.')?;
    let of_a_service = !service.is_empty() && !name.starts_with("clnrm.");
    ALIASES.into_iter().find(|alias| of_a_service && alias["container.".len()..] == *phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_or_globs() {
        let cases = [
            ("http", "http", true),
            ("http", "http GET", false),
            ("http", "HTTP", false),
            ("http *", "http GET /a/b.c", true),
            ("*", "a.b/c", true),
            ("db.?uery", "db.query", true),
            ("{get,put} x", "put x", true),
            ("{get,put} x", "post x", false),
            ("step[0-9]", "step7", true),
            ("GET /items/{id}", "GET /items/{id}", true),
            ("GET /items/{id}", "GET /items/id", false),
            ("GET /{a}/*", "GET /{a}/b", true),
            ("GET /{a}/*", "GET /a/b", false),
            ("{a,{b}}", "{b}", true),
            ("a/\\{id\\}*", "a/{id}", true),
            ("a/\\{id\\}*", "a/id", false),
            ("?", "é", true),
            ("??", "é", false),
            ("é*", "éa", true),
            ("[éa]", "é", true),
            ("[a-z]", "é", false),
            ("\u{1f600}?", "\u{1f600}\u{1f600}", true),
            ("a.?", "a.b", true),
            ("broken[", "broken[", true),
            ("broken[", "broken", false),
            ("a.b", "axb", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
        assert!(!Pattern::new("broken[").is_glob());
    }

    #[test]
    fn a_service_span_has_an_alias() {
        let matches = |pattern, name| Pattern::new(pattern).matches_lifecycle(name);
        assert!(matches("container.stop", "my.db.stop"));
        assert!(matches("container.{start,stop}", "db.stop"));
        assert!(!matches("container.stop", "db.start"));
        assert!(!matches("container.stop", "clnrm.step:a.stop"));
        assert!(!matches("con*", "db.stop"));
    }

    #[test]
    fn what_there_is_instead_is_sorted_and_short() {
        let names = ["http.get", "b", "b", "c", "d", "e", "f", "g", "h", "i"];
        assert_eq!(
            instead_of("http.got", &tally(names)).as_deref(),
            Some(
                "did you mean `http.get`? there are `b` (2), `c` (1), `d` (1), `e` (1), `f` (1), \
                 `g` (1), `h` (1), `http.get` (1), and 1 more name"
            )
        );
        assert_eq!(instead_of("zzzz", &tally(["b"])).as_deref(), Some("there are `b` (1)"));
        assert_eq!(instead_of("zzzz", &tally([])), None);
    }
}
