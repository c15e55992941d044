//! Colours; nothing is coloured where nobody sees it.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};

/// Whether what is written now is coloured.
static SHOWN: AtomicBool = AtomicBool::new(true);

/// A text in a colour.
pub(super) struct Styled<T> {
    style: Style,
    text: T,
}

/// Colours what is written from now on, or does not.
pub(super) fn show(shown: bool) {
    SHOWN.store(shown, Ordering::Relaxed);
}

/// Whether what is written now is coloured.
pub(super) fn shown() -> bool {
    SHOWN.load(Ordering::Relaxed)
}

pub(super) fn good<T: Display>(text: T) -> Styled<T> {
    Styled { style: AnsiColor::Green.on_default().bold(), text }
}

pub(super) fn bad<T: Display>(text: T) -> Styled<T> {
    Styled { style: AnsiColor::Red.on_default().bold(), text }
}

pub(super) fn doubtful<T: Display>(text: T) -> Styled<T> {
    Styled { style: AnsiColor::Yellow.on_default().bold(), text }
}

pub(super) fn quiet<T: Display>(text: T) -> Styled<T> {
    Styled { style: Style::new().dimmed(), text }
}

impl<T: Display> Display for Styled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Styled { style, text } = self;
        if shown() { write!(f, "{style}{text}{style:#}") } else { text.fmt(f) }
    }
}
