//! What a record is found by: the bytes of a name as two numbers.
//!
//! ```text
//! asked for   zeros ........ │ example.com        the last 32 bytes of a host, what is before the
//! a record    ... whatever │ example.com │ 11     label cut off by a mask; the same of a record,
//! ```                                             and its length behind it
//!
//! So names of up to 32 bytes are hashed and compared without asking how long they are. Longer ones
//! have no key: they are hashed and compared as bytes, at leisure.

use super::hash::Keys;
use crate::net::Block;

/// A name of up to 32 bytes: the last ones of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'b> {
    block: &'b Last32,
    mask: &'static Last32,
    length: u8,
}

/// 32 bytes of text, flush right.
pub(super) type Last32 = [u8; LONGEST];

/// The end of a record: a block, the last bytes of which are its name, and the name's length.
pub(in crate::policy) type Ending = [u8; LONGEST + 1];

/// The longest name that has a key, in bytes.
const LONGEST: usize = 32;

/// Cuts off what is before the last bytes: from any place on, as many zeros as are left, then ones.
const MASKS: &[u8; 2 * LONGEST] = &{
    let mut masks = [0; 2 * LONGEST];
    let (_, mut ones) = masks.split_at_mut(LONGEST);
    while let Some((one, rest)) = ones.split_first_mut() {
        *one = u8::MAX;
        ones = rest;
    }
    masks
};

impl<'b> Key<'b> {
    /// Of so many last bytes.
    #[inline]
    pub(super) fn of_last(block: &'b Last32, length: usize) -> Option<Self> {
        let mask = MASKS.get(length..)?.first_chunk()?;
        Some(Self { block, mask, length: u8::try_from(length).ok()? })
    }

    /// Of the name of a record.
    #[inline]
    pub(super) fn of_record(ending: &'b Ending) -> Option<Self> {
        let (block, [length]) = ending.split_first_chunk()? else { return None };
        Self::of_last(block, usize::from(*length))
    }

    /// How many labels the name has.
    #[inline]
    pub(super) fn labels(&self) -> usize {
        let ([a, b], [k, l]) = (halves(self.block), halves(self.mask));
        let dots = |half: u128| Block(half.to_le_bytes()).equal_to(b'.').count_ones();
        usize::try_from(dots(a & k) + dots(b & l)).unwrap_or(0) + 1
    }

    #[inline]
    pub(super) fn hash(&self, keys: &Keys) -> u64 {
        let ([a, b], [k, l]) = (halves(self.block), halves(self.mask));
        keys.hash_halves([a & k, b & l])
    }

    /// Whether that record has this name.
    #[inline]
    pub(super) fn is_that_of(&self, ending: &Ending) -> bool {
        let [other @ .., length] = ending;
        let ([a, b], [c, d]) = (halves(self.block), halves(other));
        let [k, l] = halves(self.mask);
        *length == self.length && ((a ^ c) & k) | ((b ^ d) & l) == 0
    }
}

/// A name, flush right in a block; none, if it is longer.
pub(super) fn last_32_of(name: &[u8]) -> Option<Last32> {
    let mut block = [0; LONGEST];
    block.get_mut(LONGEST.checked_sub(name.len())?..)?.copy_from_slice(name);
    Some(block)
}

#[inline]
fn halves(block: &Last32) -> [u128; 2] {
    let mut halves = [0; 2];
    for (half, bytes) in halves.iter_mut().zip(block.as_chunks().0) {
        *half = u128::from_le_bytes(*bytes);
    }
    halves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(before: u8, name: &[u8]) -> Ending {
        let mut ending = [before; LONGEST + 1];
        ending[LONGEST - name.len()..LONGEST].copy_from_slice(name);
        ending[LONGEST] = u8::try_from(name.len()).unwrap();
        ending
    }

    #[test]
    fn a_key_is_its_name_whatever_is_before_it() {
        let keys = Keys::new(7);
        for length in 1..=LONGEST {
            let name = vec![b'a'; length];
            let block = last_32_of(&name).unwrap();
            let key = Key::of_last(&block, length).unwrap();
            for before in [0, b'.', b'a'] {
                let ending = ending(before, &name);
                assert!(key.is_that_of(&ending));
                let (same, _) = ending.split_first_chunk().unwrap();
                assert_eq!(Key::of_last(same, length).unwrap().hash(&keys), key.hash(&keys));
            }
            for at in 0..length {
                let mut other = name.clone();
                other[at] = b'b';
                assert!(!key.is_that_of(&ending(b'a', &other)), "{length} {at}");
            }
            if length < LONGEST {
                let longer = last_32_of(&vec![b'a'; length + 1]).unwrap();
                let longer = Key::of_last(&longer, length + 1).unwrap();
                assert!(!longer.is_that_of(&ending(b'a', &name)));
                assert!(!key.is_that_of(&ending(0, &vec![b'a'; length + 1])));
            }
        }
        assert!(last_32_of(&[b'a'; LONGEST + 1]).is_none());
        assert!(Key::of_last(&[b'a'; LONGEST], LONGEST + 1).is_none());
    }
}
