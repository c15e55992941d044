//! Images as archives, out of an engine and into it: Podman understands Docker's requests, too.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use bollard::query_parameters::ImportImageOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker, body_try_stream};
use futures_util::{StreamExt, TryStreamExt};
use tokio_util::io::ReaderStream;

use super::chain;

/// Seconds after which a request is given up that an engine does not answer.
const PATIENCE: u64 = 120;
/// How long an engine may take to say whether it has an image.
const LOOK: Duration = Duration::from_secs(5);

fn connect(socket: &Path) -> Result<Docker, String> {
    let place = socket.display().to_string();
    Docker::connect_with_unix(&place, PATIENCE, API_DEFAULT_VERSION).map_err(|error| chain(&error))
}

/// Which version of an engine answers.
pub(crate) fn version(socket: &Path) -> Option<String> {
    let engine = connect(socket).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asked = runtime.block_on(async { tokio::time::timeout(LOOK, engine.version()).await });
    asked.ok()?.ok()?.version
}

/// The id of an image; `None` when the engine does not have it, or does not answer.
pub(crate) async fn find(socket: &Path, reference: &str) -> Option<String> {
    let engine = connect(socket).ok()?;
    let asked = tokio::time::timeout(LOOK, engine.inspect_image(reference)).await;
    let id = asked.ok()?.ok()?.id?;
    Some(if id.starts_with("sha256:") { id } else { format!("sha256:{id}") })
}

/// Has an engine write an image to a file.
pub(crate) async fn export(socket: &Path, id: &str, archive: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| format!("cannot write {}: {error}", archive.display());
    let mut file = File::create(archive).map_err(told)?;
    let engine = connect(socket)?;
    let mut parts = engine.export_image(id);
    while let Some(part) = parts.next().await {
        let part = part
            .map_err(|error| format!("{} does not give it: {}", socket.display(), chain(&error)))?;
        file.write_all(&part).map_err(told)?;
    }
    Ok(())
}

/// Has an engine take in an image from a file that is as `docker save` writes it.
pub(crate) async fn load(socket: &Path, archive: &Path) -> Result<(), String> {
    let file = tokio::fs::File::open(archive).await.map_err(|error| error.to_string())?;
    let options = ImportImageOptionsBuilder::new().quiet(true).build();
    let body = body_try_stream(ReaderStream::new(file));
    let steps = connect(socket)?.import_image(options, body, None);
    steps.try_for_each(|_| async { Ok(()) }).await.map_err(|error| chain(&error))
}
