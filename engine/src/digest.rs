//! Digests: blake3 of a canonical encoding, in a domain of its own for every kind of thing.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fault::{self, Fault};

/// 32 bytes that stand for a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of `bytes`; equal bytes of different domains have different digests.
    pub fn of(domain: &str, bytes: &[u8]) -> Digest {
        Digest::of_parts(domain, &[bytes])
    }

    /// Of all that a reader gives, however much that is.
    ///
    /// # Errors
    /// Those of the reader.
    pub(crate) fn of_reader(domain: &str, mut reader: impl Read) -> io::Result<Digest> {
        let mut hasher = blake3::Hasher::new_derive_key(domain);
        io::copy(&mut reader, &mut hasher)?;
        Ok(Digest(*hasher.finalize().as_bytes()))
    }

    /// Of a list of byte strings, each framed by its length.
    pub fn of_parts(domain: &str, parts: &[&[u8]]) -> Digest {
        Digest::framed(blake3::Hasher::new(), domain, parts)
    }

    /// The same, told by nobody who does not have the key.
    pub(crate) fn keyed(key: &[u8; 32], domain: &str, parts: &[&[u8]]) -> Digest {
        Digest::framed(blake3::Hasher::new_keyed(key), domain, parts)
    }

    fn framed(mut hasher: blake3::Hasher, domain: &str, parts: &[&[u8]]) -> Digest {
        for part in [domain.as_bytes()].iter().chain(parts) {
            if !fault::is(Fault::DigestsNotFramed) {
                hasher.update(&(part.len() as u64).to_le_bytes());
            }
            hasher.update(part);
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

// As one stretch of bytes: rows hold many digests, and byte by byte costs more than all the rest.
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Digest, E> {
                bytes.try_into().map(Digest).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Digest, NotADigest> {
        let mut digest = Digest([0; 32]);
        if text.len() != 64 || !text.is_ascii() {
            return Err(NotADigest);
        }
        for (index, byte) in digest.0.iter_mut().enumerate() {
            let digits = &text[2 * index..2 * index + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NotADigest)?;
        }
        Ok(digest)
    }
}

/// A text that is not 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hex digits")]
pub struct NotADigest;

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let digest = Digest::of("t", b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("00".parse::<Digest>(), Err(NotADigest));
    }

    #[test]
    fn parts_are_framed() {
        assert_ne!(Digest::of_parts("t", &[b"ab", b"c"]), Digest::of_parts("t", &[b"a", b"bc"]));
        assert_ne!(Digest::of("t", b""), Digest::of("u", b""));
        assert_ne!(Digest::of_parts("t", &[]), Digest::of_parts("t", &[b""]));
    }
}
