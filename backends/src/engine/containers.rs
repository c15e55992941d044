//! The life of a container: watched, removed, and swept up after a crash.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{Engine, Ours, Refusal};
use crate::error::BackendError;

/// How often a container that has not called yet is looked after.
const GLANCE: Duration = Duration::from_millis(200);
/// How long a container may take to end by itself; to end one by force takes the engine longer.
const PATIENCE: Duration = Duration::from_millis(150);
/// How long the removal of a container may take.
const REMOVE_LIMIT: Duration = Duration::from_secs(20);
/// How long an engine that is restarted may take to answer again.
const RESTART: Duration = Duration::from_secs(2);

/// Waits until a container has ended; says what its agent said.
pub(super) async fn until_gone<E: Engine>(engine: &E, name: &str, folder: &Path) -> String {
    while engine.is_there(name).await {
        sleep(GLANCE).await;
    }
    match engine.last_words(name, folder).join("; ") {
        said if said.is_empty() => "its process 1 ended at once".to_owned(),
        said => said,
    }
}

/// Removes the containers of a cell, of which the first is removed last: the others joined it.
pub(super) async fn remove<E: Engine>(engine: &E, names: &[String]) -> Result<(), BackendError> {
    let Some((first, others)) = names.split_first() else { return Ok(()) };
    let others = join_all(others.iter().map(|name| remove_one(engine, name))).await;
    let first = remove_one(engine, first).await;
    others.into_iter().chain([first]).collect()
}

async fn remove_one<E: Engine>(engine: &E, name: &str) -> Result<(), BackendError> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let force = began.elapsed() > PATIENCE;
        let refusal = match timeout(REMOVE_LIMIT, engine.remove(name, force)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(refusal)) => refusal,
            Err(_) => Refusal::Unreachable(format!("no answer within {REMOVE_LIMIT:?}")),
        };
        match refusal {
            Refusal::Answer(404, _) => return Ok(()),
            // It is ending, or being removed, at this very moment.
            Refusal::Answer(409 | 500.., _) if began.elapsed() < REMOVE_LIMIT => sleep(pause).await,
            Refusal::Unreachable(_) if began.elapsed() < RESTART => sleep(GLANCE).await,
            refusal => return Err(refusal.error(engine, "remove a container")),
        }
        if force {
            pause = (pause * 2).min(GLANCE);
        }
    }
}

/// Removes the network of a cell whose containers are gone.
pub(super) async fn remove_network<E: Engine>(engine: &E, name: &str) -> Result<(), BackendError> {
    match timeout(REMOVE_LIMIT, engine.remove_network(name)).await {
        Ok(Ok(()) | Err(Refusal::Answer(404, _))) => Ok(()),
        Ok(Err(refusal)) => Err(refusal.error(engine, "remove a network")),
        Err(_) => {
            let late = Refusal::Unreachable(format!("no answer within {REMOVE_LIMIT:?}"));
            Err(late.error(engine, "remove a network"))
        }
    }
}

/// Removes what killed runs have left, and tells what that was: containers that were made and never
/// started, or ended while another one still needed their network, and networks.
///
/// All others are removed by the engine when they end, with their run.
pub(super) async fn clean<E: Engine>(engine: &E) -> Result<Vec<String>, BackendError> {
    let failed = |refusal: Refusal| refusal.error(engine, "list containers");
    let containers = engine.containers().await.map_err(failed)?.into_iter();
    let mut names: Vec<String> = containers.filter(Ours::is_left).map(|left| left.name).collect();
    // Those that joined the network of another one of their run go before that.
    names.sort_by(|a, b| b.cmp(a));
    for name in &names {
        remove_one(engine, name).await?;
    }
    let mut removed: Vec<String> =
        names.into_iter().map(|name| format!("the container {name}")).collect();
    let failed = |refusal: Refusal| refusal.error(engine, "list networks");
    let networks = engine.networks().await.map_err(failed)?.into_iter();
    for network in networks.filter(Ours::is_left) {
        // One that is refused is in use.
        if engine.remove_network(&network.name).await.is_ok() {
            removed.push(format!("the network {}", network.name));
        }
    }
    Ok(removed)
}
