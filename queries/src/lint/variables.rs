//! Variables are read by somebody.

use clnrm_engine::{Cx, Unit};

use crate::diagnostic::{At, Fix, KeyPath, Problem};
use crate::document::{DOCUMENT, Tree};
use crate::render::names_read;

pub(super) fn check(cx: &Cx<'_>, unit: &Unit, problems: &mut Vec<Problem>) {
    let document = cx.get(&DOCUMENT, unit);
    let Ok(tree) = document.as_ref() else { return };
    let template = tree.get("template");
    let tables = [
        (KeyPath::top("vars"), tree.get("vars")),
        (KeyPath::top("template").key("vars"), template.and_then(|table| table.get("vars"))),
    ];
    if tables.iter().all(|(_, table)| table.is_none()) {
        return;
    }
    let Some(names) = names_read(cx, unit) else { return };
    for (path, table) in tables {
        let Some(Tree::Table(entries)) = table else { continue };
        for (name, _) in entries.iter().filter(|(name, _)| !names.contains(name)) {
            let path = path.key(name);
            let message = format!("the variable `{name}` is not read");
            let problem = Problem::warning("lint/unused-variable", At::Key(path.clone()), message);
            problems.push(problem.fix(Fix::Remove(path)));
        }
    }
}
