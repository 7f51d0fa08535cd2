//! Sixteen bytes, looked at all at once.
//!
//! Which of them are a certain byte, and whether all of them may stand in a name: a bit each. On
//! x86-64 that is a few instructions of SSE2, which every such processor has; elsewhere, and with
//! the feature `portable`, it is arithmetic. Both say the same, which a test keeps. No pointers:
//! bytes go in and come out as values.

#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
use self::sse2 as engine;
#[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
use self::words as engine;

/// Sixteen bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block(pub(crate) [u8; Self::LEN]);

/// Sixteen bytes of a name; the first byte's bit is the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NameBlock {
    /// The same in lower case.
    pub(super) lower: Block,
    /// Which are letters, digits, `-`, `_` or `.`.
    pub(super) usual: u16,
    pub(super) dots: u16,
    pub(super) hyphens: u16,
}

impl Block {
    pub(crate) const LEN: usize = 16;

    /// Two words, the first of them in front.
    #[inline]
    pub(super) fn of_halves(first: u64, last: u64) -> Self {
        Self((u128::from(first) | u128::from(last) << 64).to_le_bytes())
    }

    #[inline]
    pub(super) fn halves(self) -> (u64, u64) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        let first = [a, b, c, d, e, f, g, h];
        (u64::from_le_bytes(first), u64::from_le_bytes([i, j, k, l, m, n, o, p]))
    }

    /// As one number, the first byte lowest.
    #[inline]
    pub(super) fn number(self) -> u128 {
        u128::from_le_bytes(self.0)
    }

    /// The bytes that are that one.
    #[inline]
    pub(crate) fn equal_to(self, byte: u8) -> u16 {
        engine::equal_to(self, byte)
    }

    /// The bytes as a piece of a name.
    #[inline]
    pub(super) fn read_name(self) -> NameBlock {
        engine::read_name(self)
    }
}

/// SSE2.
#[cfg(target_arch = "x86_64")]
#[cfg_attr(feature = "portable", allow(dead_code, reason = "tested beside the other"))]
#[expect(unsafe_code, reason = "functions with target features can only be entered so")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_cvtsi128_si64, _mm_min_epu8,
        _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8, _mm_sub_epi8,
        _mm_unpackhi_epi64,
    };

    use super::{Block, NameBlock};

    #[inline]
    pub(super) fn equal_to(bytes: Block, byte: u8) -> u16 {
        // SAFETY: all it asks for is SSE2, which is part of x86-64 itself; it touches no memory but
        // its arguments, which are values.
        unsafe { equal(bytes, byte) }
    }

    #[inline]
    pub(super) fn read_name(bytes: Block) -> NameBlock {
        // SAFETY: as above.
        unsafe { name(bytes) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn equal(bytes: Block, byte: u8) -> u16 {
        bits(_mm_cmpeq_epi8(load(bytes), all(byte)))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn name(bytes: Block) -> NameBlock {
        let bytes = load(bytes);
        let letters = between(_mm_or_si128(bytes, all(0x20)), b'a', b'z');
        // From `-` to `9` there is one more: `/`.
        let marks = _mm_andnot_si128(_mm_cmpeq_epi8(bytes, all(b'/')), between(bytes, b'-', b'9'));
        let underscores = _mm_cmpeq_epi8(bytes, all(b'_'));
        let usual = _mm_or_si128(_mm_or_si128(letters, marks), underscores);
        NameBlock {
            lower: store(_mm_or_si128(bytes, _mm_and_si128(letters, all(0x20)))),
            usual: bits(usual),
            dots: bits(_mm_cmpeq_epi8(bytes, all(b'.'))),
            hyphens: bits(_mm_cmpeq_epi8(bytes, all(b'-'))),
        }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn between(bytes: __m128i, low: u8, high: u8) -> __m128i {
        let above = _mm_sub_epi8(bytes, all(low));
        _mm_cmpeq_epi8(_mm_min_epu8(above, all(high - low)), above)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn all(byte: u8) -> __m128i {
        _mm_set1_epi8(i8::from_le_bytes([byte]))
    }

    /// One bit for each of sixteen bytes.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn bits(mask: __m128i) -> u16 {
        let [low, high, ..] = _mm_movemask_epi8(mask).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(bytes: Block) -> __m128i {
        let (low, high) = bytes.halves();
        let signed = |half: u64| i64::from_le_bytes(half.to_le_bytes());
        _mm_set_epi64x(signed(high), signed(low))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn store(bytes: __m128i) -> Block {
        let unsigned = |half: i64| u64::from_le_bytes(half.to_le_bytes());
        let low = unsigned(_mm_cvtsi128_si64(bytes));
        Block::of_halves(low, unsigned(_mm_cvtsi128_si64(_mm_unpackhi_epi64(bytes, bytes))))
    }
}

/// Any processor: eight bytes of a word at once, or byte by byte.
#[cfg_attr(
    all(target_arch = "x86_64", not(feature = "portable")),
    allow(dead_code, reason = "tested beside the other")
)]
mod words {
    use super::{Block, NameBlock};

    /// A one in every byte.
    const ONES: u64 = 0x0101_0101_0101_0101;

    #[inline]
    pub(super) fn equal_to(bytes: Block, byte: u8) -> u16 {
        let (low, high) = bytes.halves();
        let [low, high] = [low, high].map(|half| zeros(half ^ (u64::from(byte) * ONES)));
        u16::from_le_bytes([low, high])
    }

    #[inline]
    pub(super) fn read_name(bytes: Block) -> NameBlock {
        let usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let which = bytes.0.iter().rev();
        NameBlock {
            lower: Block(bytes.0.map(|byte| byte.to_ascii_lowercase())),
            usual: which.fold(0, |bits, byte| bits << 1 | u16::from(usual(*byte))),
            dots: equal_to(bytes, b'.'),
            hyphens: equal_to(bytes, b'-'),
        }
    }

    /// A bit for each byte that is zero.
    #[inline]
    fn zeros(word: u64) -> u8 {
        const REST: u64 = ONES * 0x7f;
        // The top bit of a byte stays clear only if no bit of it is set.
        let top = !(((word & REST) + REST) | word | REST) >> 7;
        // Eight lowest bits, gathered into the top byte.
        let [.., bits] = top.wrapping_mul(0x0102_0408_1020_4080).to_le_bytes();
        bits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_bit_is_right(bytes in any::<[u8; 16]>(), byte in any::<u8>(), at in 0..16_usize) {
            let mut bytes = bytes;
            bytes[at] = byte;
            let block = Block(bytes);
            let name = block.read_name();
            for (at, byte_at) in bytes.into_iter().enumerate() {
                let bit = |bits: u16| bits >> at & 1 == 1;
                prop_assert_eq!(bit(block.equal_to(byte)), byte_at == byte);
                prop_assert_eq!(bit(name.dots), byte_at == b'.');
                prop_assert_eq!(bit(name.hyphens), byte_at == b'-');
                let usual = byte_at.is_ascii_alphanumeric() || b"-_.".contains(&byte_at);
                prop_assert_eq!(bit(name.usual), usual);
                if usual {
                    prop_assert_eq!(name.lower.0[at], byte_at.to_ascii_lowercase());
                }
            }
        }
    }

    /// Every byte in every place, by both engines.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn both_engines_agree() {
        for byte in 0..=u8::MAX {
            for at in 0..16 {
                for around in [0, b'a', b'.', b'-', byte.wrapping_add(1), byte ^ 0x80] {
                    let mut bytes = [around; 16];
                    bytes[at] = byte;
                    let block = Block(bytes);
                    assert_eq!(sse2::equal_to(block, byte), words::equal_to(block, byte));
                    assert_eq!(sse2::read_name(block), words::read_name(block), "{bytes:?}");
                }
            }
        }
    }
}
