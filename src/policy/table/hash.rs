//! The hash that the table finds names by.
//!
//! Folded multiplications of secret-keyed words, as in wyhash and its heirs: two for a name of up to
//! 32 bytes. It never leaves the table and needs no more than to spread names well for
//! anybody who does not know the seed: whatever it says, names are compared byte by byte.

/// The keys of one table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys([u128; 2]);

impl Keys {
    /// Two keys of one random number.
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut next = || {
            // SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u128::from(mixed ^ (mixed >> 31))
        };
        Self(std::array::from_fn(|_| next() << 64 | next()))
    }

    /// Of a name of up to 32 bytes, zeros before it: no name has a zero in it, so its length counts
    /// by itself.
    #[inline]
    pub(super) fn hash_halves(&self, [low, high]: [u128; 2]) -> u64 {
        let [a, b] = self.0;
        fold(low ^ a) ^ fold(high ^ b)
    }

    /// Of a longer one.
    pub(super) fn hash_long(&self, name: &[u8]) -> u64 {
        let [key, _] = self.0;
        let (chunks, rest) = name.as_chunks::<16>();
        let mut last = [0; 16];
        last.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
        let length = u64::try_from(name.len()).unwrap_or(u64::MAX);
        chunks
            .iter()
            .chain([&last])
            .fold(length, |sum, chunk| fold(u128::from_le_bytes(*chunk) ^ key ^ u128::from(sum)))
    }
}

/// Multiplies the two halves of a number, and folds the product.
#[inline]
fn fold(number: u128) -> u64 {
    let half = |number: u128| u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0);
    let product = u128::from(half(number)) * u128::from(half(number >> 64));
    half(product) ^ half(product >> 64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{
        super::key::{Key, last_32_of},
        *,
    };

    /// Every byte and the length count, at every length.
    #[test]
    fn every_byte_counts() {
        let keys = Keys::new(7);
        let hash = |name: &[u8]| hash(&keys, name);
        let mut seen = HashSet::new();
        for length in 1..=253 {
            let mut name = vec![b'a'; length];
            assert!(seen.insert(hash(&name)), "{length}");
            for at in 0..length {
                name[at] = b'b';
                assert!(seen.insert(hash(&name)), "{length} {at}");
                name[at] = b'a';
            }
        }
    }

    #[test]
    fn other_seed_other_hash() {
        for name in [&b"example.com"[..], &[b'a'; 40]] {
            assert_ne!(hash(&Keys::new(1), name), hash(&Keys::new(2), name));
        }
    }

    fn hash(keys: &Keys, name: &[u8]) -> u64 {
        match last_32_of(name) {
            Some(block) => Key::of_last(&block, name.len()).unwrap().hash(keys),
            None => keys.hash_long(name),
        }
    }
}
