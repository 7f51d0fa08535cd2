//! The text of a name: in place if it is short, shared if it is long.
//!
//! Hosts are made, copied into permits and dropped with every request; nearly all are shorter than
//! 46 bytes, and cost no allocation and no atomic count that way.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// ASCII text of at most 255 bytes.
#[derive(Clone)]
pub(super) struct NameText(Text);

#[derive(Clone)]
enum Text {
    Inline { length: u8, bytes: [u8; INLINE] },
    Shared(Arc<[u8]>),
}

/// Makes the whole as large as six words.
const INLINE: usize = 46;

impl NameText {
    #[inline]
    pub(super) fn new(text: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(start), Ok(length)) => {
                start.copy_from_slice(text);
                Self(Text::Inline { length, bytes })
            }
            _ => Self(Text::Shared(text.into())),
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Inline { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Text::Shared(bytes) => bytes,
        }
    }

    /// The text; it is ASCII, so there always is one.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
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
        for length in [0, 1, INLINE - 1, INLINE, INLINE + 1, 253] {
            let text = "a".repeat(length);
            let name = NameText::new(text.as_bytes());
            assert_eq!(name.as_str(), text);
            assert!(name == name.clone() && name < NameText::new(format!("{text}b").as_bytes()));
        }
        assert_eq!(size_of::<NameText>(), 48);
    }
}
