//! Values of effects as they are stored: large ones compressed.

use std::io::Read;

/// Smaller ones are stored as they are.
const LARGE: usize = 4 << 10;
/// None is larger: what a run may print and tell is bounded.
const LARGEST: u64 = 1 << 30;

const PLAIN: u8 = 0;
const COMPRESSED: u8 = 1;

/// The bytes under which a value is stored.
pub(super) fn pack(value: &[u8]) -> Vec<u8> {
    let compressed = (value.len() >= LARGE)
        .then(|| zstd::bulk::compress(value, zstd::DEFAULT_COMPRESSION_LEVEL).ok())
        .flatten()
        .filter(|compressed| compressed.len() < value.len());
    match compressed {
        Some(compressed) => [&[COMPRESSED], &compressed[..]].concat(),
        None => [&[PLAIN], value].concat(),
    }
}

/// The value stored under these bytes; `None` when they are none.
pub(super) fn unpack(stored: &[u8]) -> Option<Vec<u8>> {
    match stored.split_first()? {
        (&PLAIN, value) => Some(value.to_vec()),
        (&COMPRESSED, compressed) => {
            let mut value = Vec::new();
            let decoder = zstd::stream::read::Decoder::with_buffer(compressed).ok()?;
            decoder.take(LARGEST).read_to_end(&mut value).ok()?;
            Some(value)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_back() {
        let noise: Vec<u8> =
            (0..9000u32).map(|n| (n.wrapping_mul(2654435761) >> 13) as u8).collect();
        for value in [vec![], b"short".to_vec(), vec![7; LARGE], vec![7; 3 << 20], noise] {
            let packed = pack(&value);
            assert!(packed.len() <= value.len() + 1, "{} bytes", value.len());
            assert_eq!(unpack(&packed), Some(value));
        }
        assert!(pack(&[7; 1 << 20]).len() < 1 << 10);
    }

    #[test]
    fn what_is_no_value_is_none() {
        assert_eq!(unpack(b""), None);
        assert_eq!(unpack(b"\x02value"), None);
        let packed = pack(&[7; LARGE]);
        assert_eq!(unpack(&packed[..packed.len() - 3]), None);
    }
}
