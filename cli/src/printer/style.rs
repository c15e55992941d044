//! Colours; the stream drops them where nobody sees them.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

pub(super) fn good(text: impl Display) -> String {
    styled(AnsiColor::Green.on_default().bold(), text)
}

pub(super) fn bad(text: impl Display) -> String {
    styled(AnsiColor::Red.on_default().bold(), text)
}

pub(super) fn doubtful(text: impl Display) -> String {
    styled(AnsiColor::Yellow.on_default().bold(), text)
}

pub(super) fn quiet(text: impl Display) -> String {
    styled(Style::new().dimmed(), text)
}

fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}
