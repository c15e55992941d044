//! Signatures: which stored outcomes were computed here, and which by somebody who holds a shared
//! key.
//!
//! Checksums tell damage from what was written; only a keyed digest tells who wrote it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fault::{self, Fault};

/// Whose outcomes are reused, and the key by which those computed here are signed for others.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Whose outcomes are reused.
    pub whose: Whose,
    /// What signers share; any bytes, the more of them random the better.
    pub key: Option<Vec<u8>>,
}

/// Whose outcomes are reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's that are in the store.
    #[default]
    All,
    /// Those computed here, or signed with the key.
    Signed,
    /// Those computed here.
    Own,
}

/// By what it is known who computed an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signatures {
    own: Digest,
    shared: Option<Digest>,
}

/// The keys of one store: its own, which never leaves the machine, and the shared one.
pub(crate) struct Keys {
    /// Where its own is; in this process alone when `None`.
    path: Option<PathBuf>,
    own: OnceLock<[u8; 32]>,
    trust: Trust,
}

impl Keys {
    /// Those of the store at `store`.
    pub(crate) fn new(store: Option<&Path>, trust: Trust) -> Keys {
        Keys { path: store.map(path_beside), own: OnceLock::new(), trust }
    }

    /// Whether every stored outcome is believed, whoever wrote it.
    pub(crate) fn believe_all(&self) -> bool {
        self.trust.whose == Whose::All || fault::is(Fault::SignaturesNotChecked)
    }

    /// Signs an effect that was computed here.
    pub(crate) fn sign(&self, effect: &Digest, value: &Digest) -> Signatures {
        let parts = [&effect.0[..], &value.0[..]];
        let shared = |key: &Vec<u8>| {
            let key = blake3::derive_key("clnrm 2026-11 shared key of outcomes", key);
            Digest::keyed(&key, "signed outcome", &parts)
        };
        Signatures {
            own: Digest::keyed(self.own(), "own outcome", &parts),
            shared: self.trust.key.as_ref().map(shared),
        }
    }

    /// Whether a stored effect may be reused.
    pub(crate) fn believe(&self, effect: &Digest, value: &Digest, by: &Signatures) -> bool {
        if self.believe_all() {
            return true;
        }
        let ours = self.sign(effect, value);
        let is_signed = by.shared.is_some() && by.shared == ours.shared;
        by.own == ours.own || (self.trust.whose == Whose::Signed && is_signed)
    }

    /// The digest of a secret, worth nothing to whoever has the store but not its key.
    pub(crate) fn digest_of_secret(&self, secret: &[u8]) -> Digest {
        if fault::is(Fault::SecretsNotKeyed) {
            return Digest::of("secret", secret);
        }
        Digest::keyed(self.own(), "secret", &[secret])
    }

    fn own(&self) -> &[u8; 32] {
        self.own.get_or_init(|| {
            let kept = self.path.as_ref().and_then(|path| read(path).or_else(|_| make(path)).ok());
            // Where none can be kept, what it signs and hides is not known again: that costs time.
            kept.unwrap_or_else(random)
        })
    }
}

/// Where the own key of the store at `store` is.
pub(crate) fn path_beside(store: &Path) -> PathBuf {
    store.with_extension("key")
}

fn read(path: &Path) -> io::Result<[u8; 32]> {
    fs::read(path)?.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
}

fn make(path: &Path) -> io::Result<[u8; 32]> {
    let folder = path.parent().unwrap_or(Path::new("."));
    crate::store::make_folder(folder)?;
    if path.exists() {
        // It was read, and is no key.
        fs::remove_file(path)?;
    }
    let key = random();
    let mut made = crate::store::make_file(folder)?;
    made.write_all(&key)?;
    match made.persist_noclobber(path) {
        Ok(_) => Ok(key),
        // Another process was faster.
        Err(_) => read(path),
    }
}

fn random() -> [u8; 32] {
    let mut key = [0; 32];
    let filled = getrandom(&mut key, GetRandomFlags::empty());
    assert_eq!(filled, Ok(key.len()), "the kernel gives so few bytes at once");
    key
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_has_another_digest_in_every_store() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one/store", "two/store"].map(|store| folder.path().join(store));
        let digest =
            |store: &Path| Keys::new(Some(store), Trust::default()).digest_of_secret(b"hush");
        assert_ne!(digest(&one), digest(&two));
        assert_eq!(digest(&one), digest(&one), "the key is kept");
        let mode = fs::metadata(path_beside(&one)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = digest(&one);
        fs::write(path_beside(&one), "not a key").unwrap();
        assert_ne!(digest(&one), before, "a broken key is a new one");
        assert_eq!(digest(&one), digest(&one));
    }
}
