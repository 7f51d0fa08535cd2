//! The hash that the table finds names by.
//!
//! Folded multiplications of secret-keyed words, as in wyhash and its heirs, at most two for a name
//! of up to 32 bytes. It never leaves the table and needs no more than to spread names well for
//! anybody who does not know the seed: whatever it says, names are compared byte by byte.

/// The keys of one table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys([u64; 4]);

impl Keys {
    /// Four keys of one random number.
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            // SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }))
    }

    #[inline]
    pub(super) fn hash(&self, name: &[u8]) -> u64 {
        self.hash_usual(name).unwrap_or_else(|| self.hash_rare(name))
    }

    /// Of names of 8 to 32 bytes, which nearly all are.
    #[inline]
    pub(super) fn hash_usual(&self, name: &[u8]) -> Option<u64> {
        let [a, b, c, d] = self.0;
        // Ends overlap, so the length has to count; each has a key of its own.
        let b = turned(b, name.len());
        match name.len() {
            8..=16 => {
                let [head, tail] = ends(name).map(u64::from_le_bytes);
                Some(fold(head ^ a, tail ^ b))
            }
            17..=32 => {
                let [head, tail] = ends(name).map(halves);
                Some(fold(head.0 ^ a, head.1 ^ b) ^ fold(tail.0 ^ c, tail.1 ^ d))
            }
            _ => None,
        }
    }

    /// Very short and very long names.
    #[cold]
    fn hash_rare(&self, name: &[u8]) -> u64 {
        let [a, b, c, d] = self.0;
        let mut sum = turned(b, name.len());
        if name.len() < 8 {
            let word = name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            return fold(word ^ a, sum);
        }
        let mut rest = name;
        while rest.len() > 32
            && let Some((chunk, after)) = rest.split_first_chunk()
        {
            let (x, y) = halves(*chunk);
            sum = fold(x ^ a, y ^ sum);
            rest = after;
        }
        let [head, tail] = ends(rest).map(halves);
        fold(head.0 ^ a, head.1 ^ sum) ^ fold(tail.0 ^ c, tail.1 ^ d)
    }
}

/// Whether two names are the same, without a call for those of up to 32 bytes.
#[inline]
pub(super) fn equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && match one.len() {
            8..=16 => {
                let [head, tail] = ends(one).map(u64::from_le_bytes);
                let [other_head, other_tail] = ends(other).map(u64::from_le_bytes);
                (head ^ other_head) | (tail ^ other_tail) == 0
            }
            17..=32 => {
                let [head, tail] = ends(one).map(u128::from_le_bytes);
                let [other_head, other_tail] = ends(other).map(u128::from_le_bytes);
                (head ^ other_head) | (tail ^ other_tail) == 0
            }
            _ => one == other,
        }
}

/// The first and the last `N` bytes, which may overlap; zeros if there are not that many.
#[inline]
fn ends<const N: usize>(bytes: &[u8]) -> [[u8; N]; 2] {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => [*first, *last],
        _ => [[0; N]; 2],
    }
}

#[inline]
fn halves(bytes: [u8; 16]) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, low @ ..] = bytes;
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes(low))
}

/// A key for names of that length.
#[inline]
fn turned(key: u64, length: usize) -> u64 {
    key.rotate_left(u32::try_from(length % 64).unwrap_or(0))
}

#[inline]
fn fold(x: u64, y: u64) -> u64 {
    let (low, high) = x.carrying_mul(y, 0);
    low ^ high
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Every byte and the length count, at every length.
    #[test]
    fn every_byte_counts() {
        let keys = Keys::new(7);
        let mut seen = HashSet::new();
        for length in 0..=253 {
            let mut name = vec![b'a'; length];
            assert!(seen.insert(keys.hash(&name)), "{length}");
            for at in 0..length {
                name[at] = b'b';
                assert!(seen.insert(keys.hash(&name)), "{length} {at}");
                name[at] = b'a';
            }
        }
    }

    #[test]
    fn equal_compares_every_byte() {
        for length in 0..=253 {
            let name = vec![b'a'; length];
            assert!(equal(&name, &name.clone()));
            assert!(!equal(&name, &[&name[..], b"a"].concat()));
            for at in 0..length {
                let mut other = name.clone();
                other[at] = b'b';
                assert!(!equal(&name, &other), "{length} {at}");
            }
        }
    }

    #[test]
    fn other_seed_other_hash() {
        let name = b"example.com";
        assert_ne!(Keys::new(1).hash(name), Keys::new(2).hash(name));
    }
}
