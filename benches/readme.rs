//! Puts a table into a Markdown file: the figures there come in no other way.

use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- bench:begin -->\n";
const END: &str = "<!-- bench:end -->";

/// Replaces what stands between the two marks.
///
/// # Errors
///
/// When the file cannot be read or written, or has no such marks.
pub(crate) fn rewrite(file: &Path, section: &str) -> Result<(), String> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    let marks = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = marks else {
        return Err(format!("{name} has no lines `{}` and `{END}`, in this order", BEGIN.trim()));
    };
    let text = format!("{before}{BEGIN}\n{section}\n{END}{after}");
    fs::write(file, text).map_err(|error| format!("cannot write {name}: {error}"))
}
