//! The templates that come with clnrm.

/// Their names and texts.
pub const PACK: [(&str, &str); 1] =
    [("_macros.toml.tera", include_str!("../../../templates/_macros.toml.tera"))];

/// The text of a template of the pack.
pub(super) fn text(name: &str) -> Option<&'static str> {
    PACK.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
