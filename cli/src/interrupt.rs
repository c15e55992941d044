//! Ctrl-C: the first one cancels what runs, the second one ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

use clnrm_backends::Cancel;

use crate::exit::Exit;

/// Lets Ctrl-C, and requests to terminate, trigger `cancel`.
pub(crate) fn listen(cancel: &Cancel) -> anyhow::Result<()> {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let cancel = cancel.clone();
    ctrlc::set_handler(move || {
        if ASKED.swap(true, Ordering::SeqCst) {
            // Containers end by themselves when the line to their agents does.
            std::process::exit(Exit::Interrupted.code().into());
        }
        cancel.cancel();
    })?;
    Ok(())
}
