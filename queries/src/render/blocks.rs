//! Where a template sets the variables and axes that it is rendered with: tables under a header, and
//! keys at the top (`vars.x = 1`, `matrix = { n = [1, 2] }`).

use std::ops::Range;

use crate::toml_text::quote_after;

/// The tables whose keys may be set at the top, too.
const AT_THE_TOP: [&str; 3] = ["matrix", "template", "vars"];

/// The headers that are lifted, with the lines below them up to the next header or tag, and the keys
/// at the top that are.
pub(super) fn blocks(text: &str) -> Vec<Range<usize>> {
    let (mut blocks, mut open, mut offset) = (Vec::new(), None, 0);
    let (mut quote, mut is_top, mut set) = (None, true, None::<(usize, i32)>);
    for line in text.split_inclusive('\n') {
        let start = line.trim_start();
        let is_tag = start.starts_with("{{") || start.starts_with("{%");
        // In a string of several lines there are no tables.
        if quote.is_none() && set.is_none() {
            let is_header = start.starts_with('[') && is_header(line);
            if let Some(start) = open.filter(|_| is_header || is_tag) {
                blocks.push(start..offset);
                open = None;
            }
            if is_header {
                is_top = false;
                open = is_lifted(line).then_some(offset);
            } else if is_top && !is_tag && sets_lifted(start) {
                set = Some((offset, 0));
            }
        }
        if let Some((from, depth)) = set {
            let depth = depth + depth_of(line, quote);
            quote = quote_after(line, quote);
            set = Some((from, depth));
            if depth <= 0 && quote.is_none() {
                blocks.push(from..offset + line.len());
                set = None;
            }
        } else {
            quote = quote_after(line, quote);
        }
        offset += line.len();
    }
    blocks.extend(open.map(|start| start..text.len()));
    blocks
}

/// Whether a line that begins with a bracket is a header: an array goes on over lines, a header does
/// not.
fn is_header(line: &str) -> bool {
    let header = line.split('#').next().unwrap_or(line).trim();
    let is_number = header.trim_matches(['[', ']']).bytes().all(|byte| byte.is_ascii_digit());
    header.ends_with(']')
        && !is_number
        && !header.contains([',', '{', '='])
        && header.len() > 2
        && (!header.contains(['"', '\'']) || is_lifted(line))
}

/// Whether this is the header of a table that is lifted.
fn is_lifted(line: &str) -> bool {
    let header = line.split('#').next().unwrap_or(line).trim();
    let path = header.trim_matches(['[', ']']).trim();
    let first = unquoted(path.split('.').next().unwrap_or_default());
    AT_THE_TOP.contains(&first) || unquoted(path) == "determinism"
}

/// Whether a line sets a key of a table that is lifted, or all of it.
fn sets_lifted(line: &str) -> bool {
    let key = line.split(['=', '.']).next().unwrap_or_default();
    key.len() < line.len() && AT_THE_TOP.contains(&unquoted(key))
}

fn unquoted(key: &str) -> &str {
    key.trim().trim_matches(['"', '\'']).trim()
}

/// How many brackets a line opens and does not close, outside of strings and comments.
fn depth_of(line: &str, quote: Option<&'static str>) -> i32 {
    let mut depth = 0;
    for (at, sign) in line.match_indices(['#', '[', '{', ']', '}']) {
        if quote_after(&line[..at], quote).is_some() {
            continue;
        }
        match sign {
            "#" => break,
            "[" | "{" => depth += 1,
            _ => depth -= 1,
        }
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        blocks(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn tables_are_where_toml_has_them() {
        assert_eq!(found("[vars]\na = 1\n[meta]\nb = 2\n"), ["[vars]\na = 1\n"]);
        assert_eq!(found("[\"vars\"]\na = 1\n"), ["[\"vars\"]\na = 1\n"]);
        assert_eq!(found("vars = { a = 1 }\n[meta]\n"), ["vars = { a = 1 }\n"]);
        assert_eq!(found("vars.a = 1\nvars.b = 2\n"), ["vars.a = 1\n", "vars.b = 2\n"]);
        assert_eq!(
            found("matrix = { n = [\n  1,\n  2,\n] }\nx = 1\n"),
            ["matrix = { n = [\n  1,\n  2,\n] }\n"]
        );
        assert_eq!(found("\"vars\".a = 1\n"), ["\"vars\".a = 1\n"]);
    }

    #[test]
    fn other_tables_and_strings_are_left_alone() {
        assert_eq!(found("[meta]\nvars.a = 1\n"), Vec::<&str>::new());
        assert_eq!(found("x = \"\"\"\n[vars]\na = 1\n\"\"\"\n"), Vec::<&str>::new());
        assert_eq!(found("x = '''\n[vars]\n'''\n[vars]\na = 1\n"), ["[vars]\na = 1\n"]);
        assert_eq!(
            found("[vars]\na = \"\"\"\n[meta]\n\"\"\"\nb = 1\n"),
            ["[vars]\na = \"\"\"\n[meta]\n\"\"\"\nb = 1\n"]
        );
        assert_eq!(found("variables = 1\nvarsity.x = 2\n"), Vec::<&str>::new());
    }
}
