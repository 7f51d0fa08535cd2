//! A DNS host name in its one canonical form.
//!
//! Lower case, A-labels, no trailing dot. It is not a pattern and not an address: text whose last
//! label looks like a number never becomes a name, because resolvers read such text as an address
//! (`0x7f.1`, `2130706433`).

use std::fmt;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::name_text::NameText;

/// A host name as it is matched, resolved, dialled and logged.
///
/// RFC 1123 §2.1 letters, digits and inner hyphens, and `_`, which is seen in practice. At most
/// 253 bytes, labels of at most 63 (RFC 1035 §2.3.4). Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(NameText);

/// Why a text is not a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DnsNameError {
    /// An A-label that does not decode and encode to itself (RFC 5891 §5.4).
    #[error("has an `xn--` label that is not a valid A-label")]
    ALabel,
    /// An octet outside letters, digits, `-`, `_` and `.`.
    #[error(
        "has a character other than letters, digits, `-`, `_` and `.` (international names are \
         written in their `xn--` form)"
    )]
    Alphabet,
    /// Nothing there at all.
    #[error("is empty")]
    Empty,
    /// Two dots in a row, a leading dot, or more than one trailing dot.
    #[error("has an empty label (two dots in a row, or a dot at the start)")]
    EmptyLabel,
    /// A label that starts or ends with a hyphen.
    #[error("has a label that starts or ends with a hyphen")]
    Hyphen,
    /// A label of more than 63 bytes.
    #[error("has a label longer than 63 characters")]
    LabelTooLong,
    /// The last label is a number, so that resolvers take the text for an address.
    #[error("ends in a number but is not an IPv4 address in its usual form (a.b.c.d)")]
    Numeric,
    /// More than 253 bytes.
    #[error("is longer than 253 characters")]
    TooLong,
}

impl DnsName {
    /// The longest name, in bytes, without its trailing dot (RFC 1035 §2.3.4).
    pub const MAX_LEN: usize = 253;

    /// The longest name that another one can lie below, in bytes: that has a byte and a dot more.
    pub const MAX_BASE_LEN: usize = Self::MAX_LEN - 2;

    /// Parses a name as it stands on the wire: ASCII, any case, at most one trailing dot.
    ///
    /// # Errors
    ///
    /// Says which rule the text breaks; nothing is ever repaired.
    pub fn parse(text: &[u8]) -> Result<Self, DnsNameError> {
        Self::parse_usual(text).map_or_else(|| Self::parse_with_care(text), Ok)
    }

    /// Parses what nearly every name is, in one pass. None is no verdict: the text needs care.
    #[must_use]
    #[inline(always)]
    pub(super) fn parse_usual(text: &[u8]) -> Option<Self> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        match text.len() {
            8..=48 => NameText::read_blocks(text).map(Self),
            _ => Self::parse_bytes(text),
        }
    }

    /// The same, byte by byte, for names of any length.
    fn parse_bytes(text: &[u8]) -> Option<Self> {
        let mut lower = [0; Self::MAX_LEN];
        let lower = lower.get_mut(..text.len())?;
        let mut begin = 0;
        for (at, (to, byte)) in lower.iter_mut().zip(text).enumerate() {
            *to = USUAL.get(usize::from(*byte)).copied().filter(|usual| *usual != 0)?;
            if *to == b'.' {
                is_usual_label(text.get(begin..at)?).then_some(())?;
                begin = at + 1;
            }
        }
        let last = text.get(begin..)?;
        // A last label that begins with a letter is no number, and so all of it is no address.
        (is_usual_label(last) && last.first()?.is_ascii_alphabetic()).then_some(())?;
        NameText::new(lower).map(Self)
    }

    fn parse_with_care(text: &[u8]) -> Result<Self, DnsNameError> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        if text.is_empty() {
            return Err(DnsNameError::Empty);
        }
        if !text.iter().all(|&byte| is_name_byte(byte)) {
            return Err(DnsNameError::Alphabet);
        }
        // Reported before the length of a label, because it says more about a very long text.
        if text.len() > Self::MAX_LEN {
            return Err(DnsNameError::TooLong);
        }
        let lower = String::from_utf8_lossy(text).to_ascii_lowercase();
        let mut last = "";
        let mut has_a_label = false;
        for label in lower.split('.') {
            check_label(label)?;
            has_a_label |= label.starts_with("xn--");
            last = label;
        }
        if Self::looks_numeric(last) {
            return Err(DnsNameError::Numeric);
        }
        if has_a_label && !round_trips(&lower) {
            return Err(DnsNameError::ALabel);
        }
        NameText::new(lower.as_bytes()).map(Self).ok_or(DnsNameError::TooLong)
    }

    /// Whether a text is a name in its canonical form already, at one look.
    ///
    /// No is no verdict: an `xn--` label needs more than a look, and so may the text.
    #[must_use]
    pub fn is_canonical(text: &[u8]) -> bool {
        if let Some(name) = NameText::read_blocks(text) {
            return name.as_bytes() == text;
        }
        let mut labels = text.split(|byte| *byte == b'.');
        let last_begins_a_name = labels
            .next_back()
            .is_some_and(|last| last.first().is_some_and(u8::is_ascii_lowercase) && is_plain(last));
        text.len() <= Self::MAX_LEN && last_begins_a_name && labels.all(is_plain)
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The same, as bytes.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// How many labels it has; they are counted.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.as_bytes().iter().filter(|byte| **byte == b'.').count() + 1
    }

    /// The last two labels, or the only one. Rules are found by them, so they are looked for once,
    /// when the name is parsed.
    #[must_use]
    pub fn anchor(&self) -> &[u8] {
        let bytes = self.as_bytes();
        bytes.get(bytes.len() - self.anchor_len().min(bytes.len())..).unwrap_or(bytes)
    }

    /// How long those two labels are, in bytes.
    #[inline]
    pub(crate) fn anchor_len(&self) -> usize {
        self.0.last_two()
    }

    /// How long the last three labels are, in bytes; or all of it, if there are no more.
    #[inline]
    pub(crate) fn three_labels_len(&self) -> usize {
        self.0.last_three()
    }

    /// How long all of it is, in bytes.
    #[inline]
    pub(crate) fn text_len(&self) -> usize {
        self.0.len()
    }

    /// The last 32 bytes; of a shorter name all of it, behind zeros.
    #[inline]
    pub(crate) fn last_32(&self) -> &[u8; 32] {
        self.0.last_32()
    }

    /// The last two labels of a name's text, or of a suffix of it.
    pub(crate) fn anchor_of(name: &[u8]) -> &[u8] {
        name.get(anchor_start(name)..).unwrap_or(name)
    }

    /// Whether this is `localhost` or a name under it, which never go to DNS (RFC 6761 §6.3).
    #[must_use]
    #[inline]
    pub fn is_localhost(&self) -> bool {
        // Nearly no other name ends like it, so one look at its end tells.
        self.last_32().ends_with(b"ocalhost") && self.is_in_localhost()
    }

    #[cold]
    fn is_in_localhost(&self) -> bool {
        is_in(self.as_bytes(), "localhost")
    }

    /// Whether no public resolver can answer for the name: one label only, or a zone that exists
    /// inside networks only: RFC 6761 §6.3, RFC 6762 §3 and appendix G, RFC 8375, ICANN's
    /// reservation of `.internal` (2024), and `localdomain` of hosts files.
    #[must_use]
    pub fn is_in_local_zone(&self) -> bool {
        let name = self.as_bytes();
        match name.iter().rposition(|byte| *byte == b'.') {
            None => true,
            Some(dot) => match name.get(dot + 1..).unwrap_or_default() {
                b"arpa" => is_in(name, "home.arpa"),
                b"corp" | b"home" | b"internal" | b"intranet" | b"lan" | b"local"
                | b"localdomain" | b"localdomain4" | b"localdomain6" | b"localhost"
                | b"private" => true,
                _ => false,
            },
        }
    }

    /// Whether `inet_aton` and its relatives would read a text with this last label (in lower case)
    /// as an address.
    #[must_use]
    pub fn looks_numeric(label: &str) -> bool {
        match label.strip_prefix("0x") {
            Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
            None => label.bytes().all(|byte| byte.is_ascii_digit()),
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Turns U-labels of a policy file into A-labels (UTS 46, non-transitional) and folds case.
///
/// For text an administrator wrote; text from the wire must be ASCII already. ASCII text comes
/// back in lower case and is not validated further: [`DnsName::parse`] does that.
///
/// # Errors
///
/// [`DnsNameError::ALabel`] if UTS 46 refuses the text.
pub fn to_a_labels(text: &str) -> Result<String, DnsNameError> {
    if text.is_ascii() {
        return Ok(text.to_ascii_lowercase());
    }
    Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
        .map(|ascii| ascii.into_owned())
        .map_err(|_| DnsNameError::ALabel)
}

/// Whether a name is the zone itself or under it.
fn is_in(name: &[u8], zone: &str) -> bool {
    let head = name.strip_suffix(zone.as_bytes());
    head.is_some_and(|head| head.is_empty() || head.ends_with(b"."))
}

/// Where the last two labels begin.
fn anchor_start(name: &[u8]) -> usize {
    let mut dots = name.iter().enumerate().rev().filter(|(_, byte)| **byte == b'.');
    dots.nth(1).map_or(0, |(dot, _)| dot + 1)
}

/// A label of a canonical name that is no A-label.
fn is_plain(label: &[u8]) -> bool {
    let plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    !matches!(label, [] | [b'-', ..] | [.., b'-'] | [b'x', b'n', b'-', b'-', ..])
        && label.len() <= 63
        && label.iter().all(plain)
}

/// The lower case of every byte of a name, and zero for all others.
#[expect(clippy::indexing_slicing, clippy::as_conversions, reason = "evaluated by the compiler")]
const USUAL: [u8; 256] = {
    let mut usual = [0; 256];
    let names = b"abcdefghijklmnopqrstuvwxyz0123456789-_.";
    let mut at = 0;
    while at < names.len() {
        usual[names[at] as usize] = names[at];
        usual[names[at].to_ascii_uppercase() as usize] = names[at];
        at += 1;
    }
    usual
};

/// A label of letters, digits, `_` and inner hyphens that has no second hyphen where `xn--` has.
#[inline]
fn is_usual_label(label: &[u8]) -> bool {
    !matches!(label, [] | [b'-', ..] | [.., b'-'] | [_, _, b'-', b'-', ..]) && label.len() <= 63
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn check_label(label: &str) -> Result<(), DnsNameError> {
    match label.as_bytes() {
        [] => Err(DnsNameError::EmptyLabel),
        [b'-', ..] | [.., b'-'] => Err(DnsNameError::Hyphen),
        bytes if bytes.len() > 63 => Err(DnsNameError::LabelTooLong),
        _ => Ok(()),
    }
}

/// Whether every A-label decodes, and encodes to the very same text.
fn round_trips(lower: &str) -> bool {
    let (unicode, valid) =
        Uts46::new().to_unicode(lower.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
    valid.is_ok()
        && Uts46::new()
            .to_ascii(
                unicode.as_bytes(),
                AsciiDenyList::EMPTY,
                Hyphens::Allow,
                DnsLength::VerifyAllowRootDot,
            )
            .is_ok_and(|ascii| ascii == lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("example.com", "example.com"),
            ("ExAmPlE.CoM.", "example.com"),
            ("foo_bar.example.com", "foo_bar.example.com"),
            ("r3---sn-a5.example.com", "r3---sn-a5.example.com"),
            ("xn--bcher-kva.test", "xn--bcher-kva.test"),
            ("XN--BCHER-KVA.test", "xn--bcher-kva.test"),
            ("1.2.3.4.example.com", "1.2.3.4.example.com"),
            ("localhost", "localhost"),
            ("foo.0xg", "foo.0xg"),
        ] {
            assert_eq!(DnsName::parse(text.as_bytes()).unwrap().as_str(), canonical, "{text}");
        }
    }

    #[test]
    fn refusals_name_the_rule() {
        let long_label = "a".repeat(64);
        let long_name = "a.".repeat(127) + "com";
        for (text, error) in [
            ("", DnsNameError::Empty),
            (".", DnsNameError::Empty),
            ("a..b", DnsNameError::EmptyLabel),
            (".a", DnsNameError::EmptyLabel),
            ("a.b..", DnsNameError::EmptyLabel),
            ("-a.b", DnsNameError::Hyphen),
            ("a-.b", DnsNameError::Hyphen),
            ("b\u{fc}cher.test", DnsNameError::Alphabet),
            ("a b", DnsNameError::Alphabet),
            ("a%2eb", DnsNameError::Alphabet),
            ("*.a", DnsNameError::Alphabet),
            ("2130706433", DnsNameError::Numeric),
            ("127.1", DnsNameError::Numeric),
            ("0x7f.0x1", DnsNameError::Numeric),
            ("a.0x", DnsNameError::Numeric),
            ("xn--a.test", DnsNameError::ALabel),
            ("xn--example-.com", DnsNameError::Hyphen),
            (long_label.as_str(), DnsNameError::LabelTooLong),
            (long_name.as_str(), DnsNameError::TooLong),
        ] {
            assert_eq!(DnsName::parse(text.as_bytes()), Err(error), "{text}");
        }
    }

    #[test]
    fn both_ways_to_parse_agree() {
        let long = format!("{}.{}", "a".repeat(63), "b".repeat(63));
        let full = "a.".repeat(125) + "com";
        let tail = full.to_uppercase() + ".";
        for text in ["Example.COM.", "a_b.test", "1.2.test", "a", "a.b.c.d", &long, &full, &tail] {
            let usual = DnsName::parse_usual(text.as_bytes()).unwrap();
            let care = DnsName::parse_with_care(text.as_bytes()).unwrap();
            assert_eq!((&usual, usual.anchor()), (&care, care.anchor()), "{text}");
            assert_eq!(usual.labels(), care.labels(), "{text}");
        }
    }

    #[test]
    fn u_labels_become_a_labels() {
        assert_eq!(to_a_labels("B\u{fc}cher.test").unwrap(), "xn--bcher-kva.test");
        assert_eq!(to_a_labels("ABC").unwrap(), "abc");
    }

    #[test]
    fn localhost_has_a_label_boundary() {
        for (text, expected) in
            [("localhost", true), ("a.localhost", true), ("notlocalhost", false), ("l.host", false)]
        {
            assert_eq!(DnsName::parse(text.as_bytes()).unwrap().is_localhost(), expected, "{text}");
        }
    }

    #[test]
    fn local_zones() {
        for (text, expected) in [
            ("intranet", true),
            ("router.local", true),
            ("metadata.google.internal", true),
            ("nas.home.arpa", true),
            ("arpa.example", false),
            ("local.example.com", false),
            ("notlocal.test", false),
        ] {
            let name = DnsName::parse(text.as_bytes()).unwrap();
            assert_eq!(name.is_in_local_zone(), expected, "{text}");
        }
    }
}
