//! Panics that are caught: the database panics where a damaged page makes no sense to it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `then`; `None` when it panics.
pub(super) fn caught<T>(then: impl FnOnce() -> T) -> Option<T> {
    let before = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(then));
    CATCHING.set(before);
    result.ok()
}

/// Keeps panics that the store catches, and tells of in its own words, from being printed as well.
///
/// For the beginning of a program: it changes the panic hook of the process.
pub fn hush_caught_panics() {
    let others = take_hook();
    set_hook(Box::new(move |panic| {
        if !CATCHING.get() {
            others(panic);
        }
    }));
}
