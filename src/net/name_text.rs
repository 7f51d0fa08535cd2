//! The text of a name, and where its last labels begin.
//!
//! ```text
//! zeros ... │ api.eu.example.com │        the last 48 bytes, flush right
//!                        └─ 32 bytes that any lookup reads, at a fixed place
//! ```
//!
//! Hosts are made, copied into permits and dropped with every request, and rules are found by
//! their last labels. So the end of a name stands at a fixed place, and nearly every name is all
//! there: it costs no allocation and no atomic count. A longer one is shared besides.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    num::NonZeroU8,
    sync::Arc,
};

use super::Block;

/// ASCII text of 1 to 253 bytes, in lower case: labels with dots between them.
///
/// The tail comes first: a processor that copies a name and then reads its end reads what it has
/// just written, which is quick only if both are cut alike.
#[derive(Clone)]
#[repr(C)]
pub(super) struct NameText {
    tail: [u8; TAIL],
    /// All of the text, zeros behind it, if it is longer than the tail.
    whole: Option<Arc<[u8; LONGEST]>>,
    size: Size,
}

/// How long a text is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    whole: NonZeroU8,
    /// The last two labels, and the last three; all of it, if there are no more.
    last_two: u8,
    last_three: u8,
}

/// What was seen in a text, a bit for each byte, the first byte's lowest.
#[derive(Debug, Clone, Copy)]
struct Seen {
    dots: u64,
    hyphens: u64,
}

/// Three blocks.
const TAIL: usize = 3 * Block::LEN;

/// RFC 1035 §2.3.4, without the trailing dot.
const LONGEST: usize = 253;

impl NameText {
    /// Of text that was read; none, if it is too long to be a name.
    pub(super) fn new(text: &[u8]) -> Option<Self> {
        let mut tail = [0; TAIL];
        let whole = match tail.len().checked_sub(text.len()) {
            Some(from) => {
                tail.get_mut(from..)?.copy_from_slice(text);
                None
            }
            None => {
                tail = *text.last_chunk()?;
                let mut whole = [0; LONGEST];
                whole.get_mut(..text.len())?.copy_from_slice(text);
                Some(Arc::new(whole))
            }
        };
        let dots = || text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'.');
        let last = |labels: usize| {
            dots().nth(labels - 1).map_or(text.len(), |(dot, _)| text.len() - dot - 1)
        };
        let size = Size {
            whole: u8::try_from(text.len()).ok().and_then(NonZeroU8::new)?,
            last_two: u8::try_from(last(2)).ok()?,
            last_three: u8::try_from(last(3)).ok()?,
        };
        Some(Self { tail, whole, size })
    }

    /// Reads text from the wire a block at a time, if it is a name of 8 to 48 bytes without
    /// anything that needs care. None is no verdict.
    #[inline(always)]
    pub(super) fn read_blocks(text: &[u8]) -> Option<Self> {
        let (seen, blocks) = match text.len() {
            8..=16 => read_halves(text).map(|(seen, c)| (seen, [0, 0, c]))?,
            17..=32 => read_ends(text).map(|(seen, [b, c])| (seen, [0, b, c]))?,
            33..=TAIL => read_three(text)?,
            _ => return None,
        };
        let Seen { dots, hyphens } = seen;
        let behind = 1_u64.checked_shl(u32::try_from(text.len()).ok()?)?;
        let begins = dots << 1 | 1;
        let ends = (dots | behind) >> 1;
        // A label has a first byte that is no dot, a first and a last one that are no hyphens, and
        // no hyphens where `xn--` has them.
        let needs_care = (dots & (begins | behind >> 1))
            | (hyphens & (begins | ends))
            | (begins & (hyphens >> 2) & (hyphens >> 3));
        let but_last = without_last(dots);
        let last_begin = behind_last(dots);
        // A last label that begins with a letter is no number, and the text no address.
        let is_name = text.get(last_begin).is_some_and(u8::is_ascii_alphabetic);
        if needs_care != 0 || !is_name {
            return None;
        }
        let behind = |begin: usize| u8::try_from(text.len() - begin).ok();
        let size = Size {
            whole: behind(0).and_then(NonZeroU8::new)?,
            last_two: behind(behind_last(but_last))?,
            last_three: behind(behind_last(without_last(but_last)))?,
        };
        let tail = *blocks.map(u128::to_le_bytes).as_flattened().first_chunk()?;
        Some(Self { tail, whole: None, size })
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        let length = self.len();
        let whole = match &self.whole {
            None => self.tail.get(TAIL - length.min(TAIL)..),
            Some(whole) => whole.get(..length),
        };
        whole.unwrap_or(&self.tail)
    }

    /// The text; it is ASCII, so there always is one.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The last 32 bytes, or zeros and all of it.
    #[inline]
    pub(super) fn last_32(&self) -> &[u8; 32] {
        self.tail.last_chunk().unwrap_or(&[0; 32])
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.size.whole.get())
    }

    /// How long the last two labels are.
    #[inline]
    pub(super) fn last_two(&self) -> usize {
        usize::from(self.size.last_two)
    }

    /// How long the last three labels are, or all of it.
    #[inline]
    pub(super) fn last_three(&self) -> usize {
        usize::from(self.size.last_three)
    }
}

/// 8 to 16 bytes: the first and the last eight. What was seen, and the text flush right; it is put
/// together without memory, which is slow to read back in other pieces.
#[inline]
fn read_halves(text: &[u8]) -> Option<(Seen, u128)> {
    let first = u64::from_le_bytes(*text.first_chunk()?);
    let last = u64::from_le_bytes(*text.last_chunk()?);
    let name = Block::of_halves(first, last).read_name();
    let (first, last) = name.lower.halves();
    let flush = first.unbounded_shl(bits(Block::LEN - text.len()));
    let shift = text.len() - 8;
    let spread = |bits: u16| u64::from(bits & 0xff) | u64::from(bits >> 8) << shift;
    let seen = Seen { dots: spread(name.dots), hyphens: spread(name.hyphens) };
    (name.usual == u16::MAX).then_some((seen, u128::from(flush) | u128::from(last) << 64))
}

/// 17 to 32 bytes: the first and the last sixteen.
#[inline]
fn read_ends(text: &[u8]) -> Option<(Seen, [u128; 2])> {
    let first = Block(*text.first_chunk()?).read_name();
    let last = Block(*text.last_chunk()?).read_name();
    let shift = text.len() - Block::LEN;
    let spread = |one: u16, other: u16| u64::from(one) | u64::from(other) << shift;
    let seen =
        Seen { dots: spread(first.dots, last.dots), hyphens: spread(first.hyphens, last.hyphens) };
    let flush = first.lower.number() << bits(2 * Block::LEN - text.len());
    (first.usual & last.usual == u16::MAX).then_some((seen, [flush, last.lower.number()]))
}

/// 33 to 48 bytes: the first sixteen, and the last 32.
#[inline]
fn read_three(text: &[u8]) -> Option<(Seen, [u128; 3])> {
    let first = Block(*text.first_chunk()?).read_name();
    let (rest, [b, c]) = read_ends(text.last_chunk::<{ 2 * Block::LEN }>()?)?;
    let shift = text.len() - 32;
    let seen = Seen {
        dots: u64::from(first.dots) | rest.dots << shift,
        hyphens: u64::from(first.hyphens) | rest.hyphens << shift,
    };
    let flush = first.lower.number() << bits(TAIL - text.len());
    (first.usual == u16::MAX).then_some((seen, [flush, b, c]))
}

fn bits(bytes: usize) -> u32 {
    u32::try_from(8 * bytes).unwrap_or(u32::MAX)
}

/// The place behind the last bit that is set; zero, if there is none.
#[inline]
fn behind_last(bits: u64) -> usize {
    usize::try_from(u64::BITS - bits.leading_zeros()).unwrap_or(0)
}

/// All bits but the last that is set.
#[inline]
fn without_last(bits: u64) -> u64 {
    bits & !(1_u64 << 63).unbounded_shr(bits.leading_zeros())
}

impl PartialEq for NameText {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for NameText {}

impl Hash for NameText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialOrd for NameText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NameText {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_are_the_same_to_see() {
        for length in [1, 7, 8, 16, 17, 31, 32, 33, TAIL - 1, TAIL, TAIL + 1, LONGEST] {
            let text = "a".repeat(length);
            let name = NameText::new(text.as_bytes()).unwrap();
            assert_eq!((name.as_str(), name.len()), (text.as_str(), length));
            let ending = text.repeat(32);
            assert_eq!(name.last_32().ends_with(text.as_bytes()), length <= 32);
            assert!(length < 32 || ending.as_bytes().ends_with(name.last_32()));
            assert!(name == name.clone());
            if length < LONGEST {
                assert!(name < NameText::new(format!("{text}b").as_bytes()).unwrap());
            }
        }
        assert!(NameText::new(&[b'a'; LONGEST + 1]).is_none());
        assert_eq!(size_of::<NameText>(), 64);
    }

    /// Dots, hyphens, letters and others at every place of every length.
    #[test]
    fn blocks_are_read_as_bytes_are() {
        for length in 8..=TAIL {
            for at in 0..length {
                for (odd, next) in [".-", "-.", "--", "..", "9.", ".9", "A_", "_.", "a/", "a\u{7f}"]
                    .map(|pair| (pair.as_bytes()[0], pair.as_bytes()[1]))
                {
                    let mut text = vec![b'b'; length];
                    text[length / 2] = b'.';
                    text[at] = odd;
                    if at + 1 < length {
                        text[at + 1] = next;
                    }
                    let shown = String::from_utf8_lossy(&text).into_owned();
                    let Some(read) = NameText::read_blocks(&text) else {
                        assert!(!is_plain(&text), "{shown}");
                        continue;
                    };
                    assert!(is_plain(&text), "{shown}");
                    let new = NameText::new(&text.to_ascii_lowercase()).unwrap();
                    assert_eq!(read.as_str(), new.as_str());
                    assert_eq!(read.size, new.size, "{shown}");
                    assert_eq!(read.last_32(), new.last_32(), "{shown}");
                }
            }
        }
    }

    /// Label by label, as the careful parser does.
    fn is_plain(text: &[u8]) -> bool {
        let mut labels = text.split(|byte| *byte == b'.');
        let usual = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        labels.clone().all(|label| {
            label.iter().all(usual)
                && !matches!(label, [] | [b'-', ..] | [.., b'-'] | [_, _, b'-', b'-', ..])
        }) && labels.next_back().unwrap()[0].is_ascii_alphabetic()
    }
}
