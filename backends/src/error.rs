//! What goes wrong with an engine, as opposed to the code under test.

use serde::{Deserialize, Serialize};

/// The engine failed, or was never there. Valid for the session, never stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum BackendError {
    /// The engine cannot be reached at all.
    #[error("cannot reach {engine}: {reason}")]
    Unavailable {
        /// The engine and where it was looked for.
        engine: String,
        /// What the attempt said.
        reason: String,
    },
    /// The engine refused or broke off an operation.
    #[error("{engine} could not {operation}: {reason}")]
    Engine {
        /// The engine.
        engine: String,
        /// What was asked of it, as a verb phrase.
        operation: String,
        /// Its answer.
        reason: String,
    },
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl BackendError {
    /// The next step for the user, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            BackendError::Unavailable { .. } => {
                Some("start the engine, or use `--backend sandbox`, which needs none")
            }
            BackendError::Engine { .. } | BackendError::Cancelled => None,
        }
    }
}
