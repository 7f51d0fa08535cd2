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
        let [a, b, c, d] = self.0;
        let length = spread(name.len());
        if name.len() > 16 {
            let (rest, sum) = self.fold_front(name, length);
            let [head, tail] = ends::<16>(rest).map(halves);
            return fold(head.0 ^ a, head.1 ^ b ^ sum) ^ fold(tail.0 ^ c, tail.1 ^ d);
        }
        let (head, tail) = match name.len() {
            8.. => {
                let [head, tail] = ends::<8>(name).map(u64::from_le_bytes);
                (head, tail)
            }
            4..8 => {
                let [head, tail] = ends::<4>(name).map(u32::from_le_bytes);
                (u64::from(head), u64::from(tail))
            }
            _ => (name.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), 0),
        };
        fold(head ^ a, tail ^ b ^ length)
    }

    /// Leaves at most 32 bytes, and what the bytes before them come to.
    #[inline]
    fn fold_front<'n>(&self, name: &'n [u8], length: u64) -> (&'n [u8], u64) {
        let [a, b, ..] = self.0;
        let (mut rest, mut sum) = (name, length);
        while rest.len() > 32
            && let Some((chunk, after)) = rest.split_first_chunk::<16>()
        {
            let (x, y) = halves(*chunk);
            sum = fold(x ^ a ^ sum, y ^ b);
            rest = after;
        }
        (rest, sum)
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

/// The eight bits of a length, each as the top bit of a byte, where ASCII has none: no byte of a
/// name can make up for another length.
#[inline]
fn spread(length: usize) -> u64 {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    // Copies of it, nine bits apart.
    length.wrapping_mul(0x8040_2010_0804_0201) & 0x8080_8080_8080_8080
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
    fn no_byte_stands_for_a_length() {
        for long in 1..=253 {
            for short in 0..long {
                assert_ne!(spread(long), spread(short), "{long} {short}");
            }
        }
    }

    #[test]
    fn other_seed_other_hash() {
        let name = b"example.com";
        assert_ne!(Keys::new(1).hash(name), Keys::new(2).hash(name));
    }
}
