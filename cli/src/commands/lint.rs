//! `clnrm lint`

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use clnrm_queries::{Diagnostic, Edit, LINT};

use super::dry_run::{Checking, check};
use crate::args::{DenyArg, LintArgs};
use crate::exit::Exit;
use crate::known::Deny;
use crate::printer;
use crate::replace::{Replacement, replace};

pub(crate) fn run(args: &LintArgs) -> anyhow::Result<Exit> {
    let deny = match args.deny {
        Some(DenyArg::Warnings) => Deny::Warnings,
        None => Deny::Nothing,
    };
    let checking =
        Checking { command: "lint", query: &LINT, paths: &args.paths, deny, check: &args.check };
    if !args.fix {
        return check(&checking, printer::dry_run);
    }
    let mut edits = BTreeMap::new();
    let root = super::dry_run::diagnostics(&checking, |diagnostic| gather(diagnostic, &mut edits))?;
    for (file, edits) in edits {
        let path = root.join(&file);
        let count = mend(&path, edits).with_context(|| format!("cannot mend {file}"))?;
        printer::talk(&format!("mended {file} in {}", printer::many(count as u64, "place")));
    }
    check(&checking, printer::dry_run)
}

fn gather(diagnostic: &Diagnostic<&str>, edits: &mut BTreeMap<String, Vec<Edit>>) {
    if let Some(Edit { start, end, text }) = &diagnostic.edit {
        let edit = Edit { start: *start, end: *end, text: (*text).to_owned() };
        let edits = edits.entry(diagnostic.file.to_owned()).or_default();
        if !edits.contains(&edit) {
            edits.push(edit);
        }
    }
}

/// Changes a file as a whole or not at all; says in how many places.
fn mend(path: &Path, mut edits: Vec<Edit>) -> anyhow::Result<usize> {
    let before = std::fs::read_to_string(path)?;
    let mut text = before.clone();
    // The byte order mark is no part of the text that was checked.
    let mark = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    edits.sort_by_key(|edit| std::cmp::Reverse((edit.start, edit.end)));
    let (mut count, mut from) = (0, text.len());
    for Edit { start, end, text: new } in edits {
        let range = mark + start as usize..mark + end as usize;
        // Of two changes of one place the second has to wait for the next time.
        if range.end <= from && text.get(range.clone()).is_some() {
            from = range.start;
            text.replace_range(range, &new);
            count += 1;
        }
    }
    replace(Replacement { path: path.to_owned(), before, after: text })?;
    Ok(count)
}
