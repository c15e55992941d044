//! The life of a container: made and started, watched, removed, and swept up after a crash.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use podman_api::models::ContainerStatus;
use podman_api::opts::{ContainerDeleteOpts, ContainerListFilter, ContainerListOpts};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::service::{Refusal, Service};
use super::spec;
use crate::error::BackendError;

/// How often a container that has not called yet is looked after.
const GLANCE: Duration = Duration::from_millis(200);
/// How long a container may take to end by itself; to end one by force takes the engine longer.
const PATIENCE: Duration = Duration::from_millis(150);
/// How long the removal of a container may take.
const REMOVE_LIMIT: Duration = Duration::from_secs(20);
/// A container that was not started for this long never will be.
const ABANDONED: Duration = Duration::from_secs(30);

/// Makes a container and starts it.
pub(super) async fn start(service: Service, name: String, spec: Value) -> Result<(), BackendError> {
    let failed = |refusal| service.error("make a container", refusal);
    service.create(&spec).await.map_err(failed)?;
    let container = service.api.containers().get(&name);
    container.start(None).await.map_err(|error| failed(error.into()))
}

/// Waits until a container has ended; says what its agent said.
pub(super) async fn until_gone(service: &Service, name: &str, folder: &Path) -> String {
    let container = service.api.containers().get(name);
    while container.exists().await.unwrap_or(true) {
        sleep(GLANCE).await;
    }
    let log = std::fs::read_to_string(folder.join(spec::LOG)).unwrap_or_default();
    // Each line begins with the time, the stream and a mark.
    let said: Vec<_> = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    match said.join("; ") {
        said if said.is_empty() => "its process 1 ended at once".to_owned(),
        said => said,
    }
}

/// Removes the containers of a cell, of which the first is removed last: the others joined it.
pub(super) async fn remove(service: &Service, names: &[String]) -> Result<(), BackendError> {
    let Some((first, others)) = names.split_first() else { return Ok(()) };
    let others = join_all(others.iter().map(|name| remove_one(service, name))).await;
    let first = remove_one(service, first).await;
    others.into_iter().chain([first]).collect()
}

async fn remove_one(service: &Service, name: &str) -> Result<(), BackendError> {
    let began = Instant::now();
    let options = ContainerDeleteOpts::builder().volumes(true).timeout(0);
    let mut pause = Duration::from_millis(2);
    loop {
        let force = began.elapsed() > PATIENCE;
        let container = service.api.containers().get(name);
        let options = options.clone().force(force).build();
        let refusal = match timeout(REMOVE_LIMIT, container.delete(&options)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Refusal::from(error),
            Err(_) => Refusal::Unreachable(format!("no answer within {REMOVE_LIMIT:?}")),
        };
        match refusal {
            Refusal::Answer(404, _) => return Ok(()),
            // It is ending, or being removed, at this very moment.
            Refusal::Answer(..) if began.elapsed() < REMOVE_LIMIT => sleep(pause).await,
            refusal => return Err(service.error("remove a container", refusal)),
        }
        if force {
            pause = (pause * 2).min(GLANCE);
        }
    }
}

/// Removes what killed runs have left: containers that were made and never started.
///
/// Those that were started end with their run, and the engine removes them. The age keeps away
/// from what other processes are making at this moment.
pub(super) async fn sweep(service: Service) {
    let options = ContainerListOpts::builder().all(true).filter([
        ContainerListFilter::LabelKey(spec::STARTED_LABEL.to_owned()),
        ContainerListFilter::Status(ContainerStatus::Created),
    ]);
    let Ok(containers) = service.api.containers().list(&options.build()).await else { return };
    for container in containers {
        let started = container.labels.unwrap_or_default().remove(spec::STARTED_LABEL);
        let started = started.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let (Some(id), Some(started)) = (container.id, started) else { continue };
        if now().saturating_sub(started) > ABANDONED {
            let _ = remove_one(&service, &id).await;
        }
    }
}

/// Since the epoch.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
