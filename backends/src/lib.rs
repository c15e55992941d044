//! Backends: an [`Action`] in, an [`Outcome`] out.
//!
//! A backend offers *cells*: a private network with containers in it. What happens in a cell is
//! the same everywhere and written once, in `scenario`: services start in order, get ready, steps
//! run, everything stops, spans are collected. Inside each container a small agent is process 1;
//! it starts processes, streams their output and carries OTLP from the private loopback to the
//! receiver, so neither needs any network. Podman and the sandbox differ only in how a container
//! comes to be.
//!
//! All async code of clnrm lives here, behind the blocking [`Backend`].

mod action;
#[path = "../agent/agent.rs"]
mod agent;
mod cell;
mod choose;
mod clean;
pub mod conformance;
mod docker;
mod engine;
mod error;
mod fake;
mod host;
mod image;
mod kept;
mod link;
mod otlp;
mod outcome;
mod output;
mod podman;
mod removal;
mod sandbox;
mod scenario;
mod survey;
mod syscalls;
mod trace;
mod up;

pub use action::{
    Action, ActionKey, Awaited, BackendKind, Difference, Expected, Forward, Host, Image, Limits,
    Mount, Network, Process, Readiness, Retry, ServicePlan, StepPlan, differences,
};
pub use choose::{Choice, Chosen, choose};
pub use clean::clean;
pub use docker::Docker;
pub use error::BackendError;
pub use fake::Fake;
pub use image::pull::Pull;
pub use kept::{Door, Kept, Published};
pub use otlp::{LogRecord, log_records, metric_names, otlp_spans};
pub use outcome::{Contact, Ended, Outcome, Output, ServiceOutcome, Signals, StepOutcome};
pub use podman::Podman;
pub use sandbox::{Sandbox, sandbox_main};
pub use scenario::Cancel;
pub use survey::{Finding, Health, survey};
pub use trace::{
    Attributes, Dropped, Event, Source, Span, SpanKind, Status, StatusCode, Value, packed,
};
pub use up::{Up, services_up};

/// The folder of the program's own store, which no container sees.
pub(crate) const STORE: &str = ".clnrm";

/// Where actions are run.
pub trait Backend: Send + Sync {
    /// Which one this is; part of every run key.
    fn kind(&self) -> BackendKind;

    /// What `reference` means here and now, or `None` when this backend does not have it.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    fn image(&self, reference: &str) -> Result<Option<Image>, BackendError>;

    /// Says that `actions` will be run next, `at_once` of them at a time, for what can be made ready
    /// before.
    fn expect(&self, _actions: &[&Action], _at_once: usize) {}

    /// Says that one more run like the last is to be expected, some time later: what takes long is
    /// done before.
    fn linger(&self) {}

    /// Runs `action` in a fresh cell, which is removed afterwards, whatever happens.
    ///
    /// Blocks until what came of it is known; see [`finish`](Backend::finish). A program that fails or never ends is an [`Outcome`].
    ///
    /// # Errors
    /// When the engine, not the code under test, failed, or when `cancel` was triggered.
    fn run(&self, action: &Action, cancel: &Cancel) -> Result<Outcome, BackendError>;

    /// Runs `action` up to its end, or as far as its steps end as expected, and keeps everything
    /// up until `cancel` is triggered; `up` is told when it is.
    ///
    /// # Errors
    /// When the engine failed, or there is nothing to keep.
    fn keep(
        &self,
        action: &Action,
        scenario: &str,
        cancel: &Cancel,
        up: &dyn Fn(&Kept),
    ) -> Result<(), BackendError>;

    /// Blocks until nothing is left of all runs so far.
    ///
    /// # Errors
    /// When something could not be removed.
    fn finish(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

/// Lets lines be encrypted; call before one is.
fn provide_cryptography() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// The runtime on which a backend's async code runs; its threads sleep when nothing does.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads and a poller can be made")
}
