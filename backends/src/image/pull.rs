//! When images are asked for at registries.

use std::collections::HashSet;
use std::sync::Mutex;

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// When it is not there.
    #[default]
    Missing,
    /// In every run, once.
    Always,
    /// Not at all.
    Never,
}

/// What was pulled by this process, and what may be.
#[derive(Default)]
pub(crate) struct Pulls {
    policy: Pull,
    pulled: Mutex<HashSet<String>>,
}

impl Pulls {
    pub(crate) fn new(policy: Pull) -> Pulls {
        Pulls { policy, pulled: Mutex::default() }
    }

    /// Whether an image is to be pulled although it may be there; yes once.
    pub(crate) fn first(&self, reference: &str) -> bool {
        self.policy == Pull::Always
            && is_remote(reference)
            && self.pulled.lock().expect("no holder panics").insert(reference.to_owned())
    }

    /// Whether an image that is not there may be pulled.
    pub(crate) fn may(&self, reference: &str) -> bool {
        self.policy != Pull::Never && is_remote(reference)
    }
}

/// Whether a reference names a registry that can be asked: `localhost` without a port is the name
/// of images that were made on this machine, and what begins with a digest is an id.
fn is_remote(reference: &str) -> bool {
    !reference.starts_with("localhost/") && !reference.starts_with("sha256:")
}
