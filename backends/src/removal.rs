//! What goes on after a run: its containers are removed while others start.

use std::sync::{Arc, Mutex};

use tokio_util::task::TaskTracker;

use crate::error::BackendError;

/// Removals under way.
#[derive(Default)]
pub(crate) struct Removals {
    tasks: TaskTracker,
    failed: Arc<Mutex<Option<BackendError>>>,
}

impl Removals {
    /// Goes on with `removal` whatever else happens. Call within a tokio runtime.
    pub(crate) fn begin(
        &self,
        removal: impl Future<Output = Result<(), BackendError>> + Send + 'static,
    ) {
        let failed = self.failed.clone();
        self.tasks.spawn(async move {
            if let Err(error) = removal.await {
                failed.lock().expect("no holder panics").get_or_insert(error);
            }
        });
    }

    /// Waits until nothing is left to be removed; gives the first failure since the last time.
    pub(crate) async fn finish(&self) -> Result<(), BackendError> {
        self.tasks.close();
        self.tasks.wait().await;
        let failed = self.failed.lock().expect("no holder panics").take();
        failed.map_or(Ok(()), Err)
    }
}
