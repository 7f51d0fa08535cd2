//! `*` and `?` inside a pattern, with Codex's meaning: `*` is any run of characters, dots
//! included; `?` is exactly one; anchored at both ends.
//!
//! Not a file glob: there are no classes, braces or escapes. The matcher takes at most
//! pattern × text steps for each dot of the text, so a hostile pair cannot run away. Whether
//! anything at all is matched is for [`Glob::name`] and [`Glob::matches_an_address`] to say.

mod address;
mod common;
mod name;

use std::fmt;

pub(super) use common::{are_apart, name_of_both};

/// A pattern with wildcards inside a label, in canonical (lower-case, A-label) form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Glob {
    prefix: Prefix,
    body: Box<str>,
}

/// What a leading `*.` or `**.` adds, expanded as Codex expands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Prefix {
    /// No prefix: the body alone.
    Body,
    /// `*.`: one character or more, a dot, the body.
    Below,
    /// `**.`: the body alone, or anything below it.
    BodyAndBelow,
}

impl Glob {
    pub(crate) fn new(prefix: Prefix, body: &str) -> Self {
        Self { prefix, body: body.into() }
    }

    /// Whether the whole of `text` (a canonical host, addresses without brackets) matches.
    #[must_use]
    pub fn matches(&self, text: impl AsRef<[u8]>) -> bool {
        let (body, text) = (self.body.as_bytes(), text.as_ref());
        match self.prefix {
            Prefix::Body => matches(body, text),
            Prefix::Below => matches_below(body, text),
            Prefix::BodyAndBelow => matches(body, text) || matches_below(body, text),
        }
    }

    /// Whether this was written over an address (`192.168.*`, `2001:db8:*`) rather than a name.
    #[must_use]
    pub fn is_over_address(&self) -> bool {
        let dotted =
            self.body.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'*' | b'?'))
                && self.body.bytes().any(|b| b.is_ascii_digit())
                && (self.body.contains('.') || self.prefix != Prefix::Body);
        dotted || self.body.contains(':')
    }

    /// The whole labels it ends in, all of them spelled out: whatever it matches lies below them.
    /// Empty, if its last label has a wildcard or is a number.
    pub(super) fn literal_end(&self) -> &str {
        let wild = self.body.rfind(['*', '?']).unwrap_or(0);
        let end = self.body.get(wild..).and_then(|rest| rest.split_once('.'));
        end.map(|(_, end)| end).filter(|_| !self.is_over_address()).unwrap_or("")
    }

    /// What is left of it before the literal end, to be matched with what is left of the text.
    pub(super) fn without_end(&self) -> Self {
        let end = self.literal_end().len();
        Self::new(self.prefix, self.body.get(..self.body.len() - end).unwrap_or(&self.body))
    }

    /// The same as a regular expression over bytes, to be matched as a whole.
    pub(super) fn to_regex(&self) -> String {
        let mut regex = String::from(match self.prefix {
            Prefix::Body => "",
            Prefix::Below => r".+\.",
            Prefix::BodyAndBelow => r"(?:.+\.)?",
        });
        for character in self.body.chars() {
            match character {
                '*' => regex.push_str(".*"),
                '?' => regex.push('.'),
                literal if literal.is_ascii_alphanumeric() => regex.push(literal),
                literal => regex.extend(['\\', literal]),
            }
        }
        regex
    }

    /// How long it is, in bytes, without its prefix.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    /// How many characters are spelled out: the more, the more specific.
    pub(crate) fn literal_len(&self) -> usize {
        self.body.bytes().filter(|byte| !matches!(byte, b'*' | b'?')).count()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.prefix {
            Prefix::Body => "",
            Prefix::Below => "*.",
            Prefix::BodyAndBelow => "**.",
        })?;
        f.write_str(&self.body)
    }
}

/// `?*.body`: some dot with at least one character before it starts the body.
fn matches_below(body: &[u8], text: &[u8]) -> bool {
    let mut dots = text.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'.');
    dots.any(|(at, _)| text.get(at + 1..).is_some_and(|rest| matches(body, rest)))
}

/// What is before the first star stands at the beginning and what is behind the last at the end;
/// that alone decides nearly always. The pieces between two stars stand wherever they are found
/// first.
fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    loop {
        match (pattern, text) {
            ([b'*', ..], _) => break,
            ([want, pattern_rest @ ..], [have, text_rest @ ..]) if is_met(*want, *have) => {
                (pattern, text) = (pattern_rest, text_rest);
            }
            (pattern, text) => return pattern.is_empty() && text.is_empty(),
        }
    }
    loop {
        match (pattern, text) {
            ([.., b'*'], _) => return are_in_order(pattern, text),
            ([pattern_rest @ .., want], [text_rest @ .., have]) if is_met(*want, *have) => {
                (pattern, text) = (pattern_rest, text_rest);
            }
            (_, _) => return false,
        }
    }
}

/// Whether the pieces between the stars are found one after the other.
fn are_in_order(pattern: &[u8], text: &[u8]) -> bool {
    let mut rest = text;
    for piece in pattern.split(|byte| *byte == b'*').filter(|piece| !piece.is_empty()) {
        let is_here = |window: &[u8]| piece.iter().zip(window).all(|(w, h)| is_met(*w, *h));
        let Some(found) = rest.windows(piece.len()).position(is_here) else { return false };
        rest = rest.get(found + piece.len()..).unwrap_or_default();
    }
    true
}

fn is_met(want: u8, have: u8) -> bool {
    want == have || want == b'?'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codex_meaning() {
        let region = Glob::new(Prefix::Body, "region*.v2.argotunnel.com");
        for (text, expected) in [
            ("region1.v2.argotunnel.com", true),
            ("region.v2.argotunnel.com", true),
            ("region1.evil.v2.argotunnel.com", true),
            ("xregion1.v2.argotunnel.com", false),
            ("foo.region1.v2.argotunnel.com", false),
            ("region1.v2.argotunnel.com.evil", false),
        ] {
            assert_eq!(region.matches(text), expected, "{text}");
        }
        let build = Glob::new(Prefix::Body, "build-?.ci");
        assert!(build.matches("build-1.ci"));
        assert!(!build.matches("build-.ci") && !build.matches("build-12.ci"));
    }

    #[test]
    fn prefixes_expand() {
        let below = Glob::new(Prefix::Below, "a*.b");
        assert!(below.matches("x.a1.b") && !below.matches("a1.b") && !below.matches(".a1.b"));
        let both = Glob::new(Prefix::BodyAndBelow, "a*.b");
        assert!(both.matches("x.a1.b") && both.matches("a1.b"));
    }

    #[test]
    fn over_addresses() {
        for (glob, expected) in [
            (Glob::new(Prefix::Body, "192.168.*"), true),
            (Glob::new(Prefix::Below, "0.1"), true),
            (Glob::new(Prefix::Body, "2001:db8:*"), true),
            (Glob::new(Prefix::Body, "*1*"), false),
            (Glob::new(Prefix::Body, "*.*"), false),
            (Glob::new(Prefix::Body, "10.*.example"), false),
        ] {
            assert_eq!(glob.is_over_address(), expected, "{glob}");
        }
    }
}
