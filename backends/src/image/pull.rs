//! When images are asked for at registries.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

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
    /// When it was not pulled for so long.
    After(Duration),
}

/// What was pulled, and what may be.
pub(crate) struct Pulls {
    policy: Pull,
    /// Files whose age is that of a pull.
    folder: PathBuf,
    pulled: Mutex<HashSet<String>>,
}

impl Pulls {
    /// As `policy` says; `folder` remembers when.
    pub(crate) fn new(policy: Pull, folder: PathBuf) -> Pulls {
        Pulls { policy, folder, pulled: Mutex::default() }
    }

    /// The same by another policy.
    pub(crate) fn by(self, policy: Pull) -> Pulls {
        Pulls { policy, ..self }
    }

    /// Whether an image is to be pulled although it may be there; yes once.
    pub(crate) fn first(&self, reference: &str) -> bool {
        let wanted = match self.policy {
            Pull::Missing | Pull::Never => false,
            Pull::Always => true,
            Pull::After(age) => self.age(reference).is_none_or(|since| since >= age),
        };
        wanted
            && is_remote(reference)
            && self.pulled.lock().expect("no holder panics").insert(reference.to_owned())
    }

    /// Notes that an image was pulled now.
    pub(crate) fn done(&self, reference: &str) {
        // Without the note it is pulled once more than it needs to be.
        let _ = fs::create_dir_all(&self.folder);
        let _ = fs::write(self.stamp(reference), reference);
    }

    fn age(&self, reference: &str) -> Option<Duration> {
        fs::metadata(self.stamp(reference)).ok()?.modified().ok()?.elapsed().ok()
    }

    fn stamp(&self, reference: &str) -> PathBuf {
        self.folder.join(&blake3::hash(reference.as_bytes()).to_hex()[..32])
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
