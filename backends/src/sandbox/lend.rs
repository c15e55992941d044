//! Images of a Podman or Docker on this machine, lent to the sandbox.

use std::path::Path;

use crate::choose::sockets;
use crate::engine::archive;
use crate::image::{Shelf, Source};

/// The id of an image by a name that an engine of this machine knows, which the shelf learns to
/// take from there. `None` when no engine has it.
pub(super) async fn find(shelf: &Shelf, reference: &str) -> Option<String> {
    for socket in sockets() {
        let Some(id) = archive::find(&socket, reference).await else { continue };
        if !shelf.has(&id) {
            let name = id.clone();
            let write = move |file: &Path| {
                // Whoever unpacks blocks, so this has a thread to itself.
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| error.to_string())?;
                runtime.block_on(archive::export(&socket, &name, file))
            };
            shelf.learn(&id, Source::Writer(Box::new(write)));
        }
        return Some(id);
    }
    None
}
