//! Ctrl-C: the first one gives up what is being worked on, and what was learned is written down;
//! the second one ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

use clnrm_backends::Cancel;
use clnrm_engine::Engine;

use crate::exit::Exit;

/// Lets Ctrl-C, and requests to terminate, trigger `cancel` and give up what `engine` is asked for.
pub(crate) fn listen(engine: &Engine, cancel: &Cancel) -> anyhow::Result<()> {
    listen_and(engine, cancel, || ())
}

/// The same, and does one more thing.
pub(crate) fn listen_and(
    engine: &Engine,
    cancel: &Cancel,
    more: impl Fn() + Send + 'static,
) -> anyhow::Result<()> {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let (cancellation, cancel) = (engine.cancellation(), cancel.clone());
    ctrlc::set_handler(move || {
        if ASKED.swap(true, Ordering::SeqCst) {
            crate::keys::give_back();
            // Containers end by themselves when the line to their agents does.
            std::process::exit(Exit::Interrupted.code().into());
        }
        // In this order: whoever sees runs end by it may then ask queries again.
        cancellation.cancel();
        cancel.cancel();
        more();
    })?;
    Ok(())
}
