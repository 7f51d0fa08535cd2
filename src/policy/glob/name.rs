//! Whether some name is what a glob describes: a witness, or why there can be none.
//!
//! Nearly every glob has one at once: a letter for each wildcard. Only where that is too long, or
//! an `xn--` label too odd, is there a search. What no witness is found for is refused, which for
//! odd `xn--` labels may be more than must be.

use super::{Glob, Prefix};
use crate::net::{DnsName, DnsNameError, to_a_labels};

impl Glob {
    /// A name that it matches.
    ///
    /// # Errors
    ///
    /// What every text that it matches does wrong.
    pub(in crate::policy) fn name(&self) -> Result<DnsName, DnsNameError> {
        match self.prefix {
            Prefix::Body | Prefix::BodyAndBelow => name(&self.body, DnsName::MAX_LEN),
            Prefix::Below => {
                let body = name(&self.body, DnsName::MAX_BASE_LEN)?;
                DnsName::parse(format!("{LETTER}.{body}").as_bytes())
            }
        }
    }
}

/// Stands for a wildcard. It is no hexadecimal digit, so that no label with it is a number.
const LETTER: char = 'g';

/// The longest label, in bytes (RFC 1035 §2.3.4).
const LONGEST_LABEL: usize = 63;

/// A name of at most so many bytes that a body describes.
fn name(body: &str, most: usize) -> Result<DnsName, DnsNameError> {
    let text = match DnsName::parse(filled(body).as_bytes()) {
        Ok(name) if name.as_str().len() <= most => return Ok(name),
        Ok(_) => shortest(body, LONGEST_LABEL).ok_or(DnsNameError::TooLong)?,
        Err(error @ (DnsNameError::TooLong | DnsNameError::LabelTooLong)) => {
            // The search takes steps for each byte, so it gets no more of them than a name has.
            let least = body.bytes().filter(|byte| *byte != b'*').count();
            let text = (least <= most).then(|| shortest(body, LONGEST_LABEL)).flatten();
            text.ok_or(if least > most { DnsNameError::TooLong } else { error })?
        }
        Err(DnsNameError::ALabel) => with_whole_a_labels(body)?,
        Err(
            error @ (DnsNameError::Alphabet
            | DnsNameError::Empty
            | DnsNameError::EmptyLabel
            | DnsNameError::Hyphen
            | DnsNameError::Numeric),
        ) => return Err(error),
    };
    match DnsName::parse(text.as_bytes())? {
        name if name.as_str().len() <= most => Ok(name),
        _ => Err(DnsNameError::TooLong),
    }
}

fn filled(body: &str) -> String {
    body.replace(['*', '?'], LETTER.encode_utf8(&mut [0; 4]))
}

/// The body with `xn--` labels that mean something: what stands before the first `*` of such a
/// label is kept and completed, what stands behind it goes into a label of its own.
///
/// With `?` alone such a label is refused, even if some character made it whole: `?` says nothing
/// there, since no byte of an A-label stands for a character of its own.
fn with_whole_a_labels(body: &str) -> Result<String, DnsNameError> {
    let whole = |label: &str| match label.strip_prefix("xn--") {
        Some(rest) if label.contains(['*', '?']) => {
            let (begin, end) = rest.split_once('*').ok_or(DnsNameError::ALabel)?;
            let begin = filled(begin);
            let mut label = to_a_labels(&format!("\u{fc}{begin}"))?;
            if !label.strip_prefix("xn--").is_some_and(|rest| rest.starts_with(&begin)) {
                return Err(DnsNameError::ALabel);
            }
            if !end.is_empty() {
                label.extend(['.', LETTER]);
                label.push_str(&filled(end));
            }
            Ok(label)
        }
        Some(_) | None => Ok(filled(label)),
    };
    let labels: Result<Vec<String>, DnsNameError> = body.split('.').map(whole).collect();
    Ok(labels?.join("."))
}

/// The shortest text that a body describes and that has labels of at most `longest` bytes, with
/// dots in the wildcards' places where that takes them. It is a name, `xn--` labels aside.
///
/// A label ends at each dot, and may end at each wildcard; the best way to end one there is the
/// best of all ways to begin it. Takes some 2 × `longest` steps for each byte.
fn shortest(body: &str, longest: usize) -> Option<String> {
    let body = body.as_bytes();
    let mut ends: Vec<Option<End>> = vec![Some(End { length: 0, begin: 0 })];
    for at in 0..=body.len() {
        let may_end = body.get(at).is_none_or(|byte| matches!(byte, b'.' | b'?' | b'*'));
        ends.push(if may_end { best_end(body, &ends, at, longest) } else { None });
    }
    let mut labels = Vec::new();
    let mut place = ends.len() - 1;
    while place > 0 {
        let begin = ends.get(place).copied().flatten()?.begin;
        labels.push(Label::between(body, begin, place - 1).text(body));
        place = begin;
    }
    labels.reverse();
    Some(labels.join("."))
}

/// The best way for a label to end, as far as is known.
#[derive(Debug, Clone, Copy)]
struct End {
    /// Of all text up to there, in bytes.
    length: usize,
    /// The end before it: nothing, or that of a byte of the body, plus one.
    begin: usize,
}

/// The best label that ends before the byte at that place.
fn best_end(body: &[u8], ends: &[Option<End>], at: usize, longest: usize) -> Option<End> {
    let mut best: Option<End> = None;
    let mut label = Label::between(body, at, at);
    loop {
        if let Some(end) = ends.get(label.begin).copied().flatten()
            && let Some(bytes) = label.cost(body).filter(|bytes| *bytes <= longest)
        {
            let dot = usize::from(label.begin > 0);
            let length = end.length + dot + bytes;
            if best.is_none_or(|best| length < best.length) {
                best = Some(End { length, begin: label.begin });
            }
        }
        if !label.grow(body) || label.kept > longest {
            return best;
        }
    }
}

/// A part of a body as one label, between two dots or the ends of the text.
#[derive(Debug, Clone, Copy)]
struct Label {
    /// Where it begins, and where it ends: the byte that is a dot, or the end of the body.
    begin: usize,
    end: usize,
    /// Bytes that are not `*`.
    kept: usize,
    first: Option<u8>,
    last: Option<u8>,
    /// A `*` before the first byte that is kept, one behind the last, and one anywhere. One that
    /// is the dot itself can put something on both its sides.
    star_before: bool,
    star_behind: bool,
    star: bool,
    /// Whether a byte may be chosen.
    has_choice: bool,
}

impl Label {
    /// The part from one place to another.
    fn between(body: &[u8], begin: usize, end: usize) -> Self {
        let star_behind = body.get(end) == Some(&b'*');
        let mut label = Self {
            begin: end,
            end,
            kept: 0,
            first: None,
            last: None,
            star_before: star_behind,
            star_behind,
            star: star_behind,
            has_choice: false,
        };
        while label.begin > begin && label.grow(body) {}
        label
    }

    /// Takes one byte more at its beginning, unless that is a dot or there is none.
    fn grow(&mut self, body: &[u8]) -> bool {
        let Some(byte) = self.begin.checked_sub(1).and_then(|at| body.get(at)) else {
            return false;
        };
        match byte {
            b'.' => return false,
            b'*' => {
                self.star_before = true;
                self.star = true;
                self.star_behind |= self.kept == 0;
            }
            other => {
                self.kept += 1;
                self.first = Some(*other);
                self.last = self.last.or(Some(*other));
                self.star_before = false;
                self.has_choice |= *other == b'?';
            }
        }
        self.begin -= 1;
        true
    }

    /// How many bytes it takes at least, if it can be one.
    fn cost(&self, body: &[u8]) -> Option<usize> {
        self.fills(body).map(|fills| {
            [fills.front, fills.inside, fills.back].into_iter().filter(|is| *is).count() + self.kept
        })
    }

    /// As it is written with that many.
    fn text(&self, body: &[u8]) -> String {
        let Fills { front, mut inside, back } = self.fills(body).unwrap_or_default();
        let mut text = String::new();
        text.extend(front.then_some(LETTER));
        for byte in body.get(self.begin..self.end).unwrap_or_default() {
            match byte {
                b'*' => text.extend(std::mem::take(&mut inside).then_some(LETTER)),
                b'?' => text.push(LETTER),
                other => text.push(char::from(*other)),
            }
        }
        text.extend(back.then_some(LETTER));
        text
    }

    /// Which stars have to be a letter, for the label to be legal.
    fn fills(&self, body: &[u8]) -> Option<Fills> {
        let after_star =
            self.begin.checked_sub(1).and_then(|at| body.get(at)).is_some_and(|byte| *byte == b'*');
        let (before, star) = (self.star_before || after_star, self.star || after_star);
        if self.kept == 0 {
            return star.then_some(Fills { front: true, ..Fills::default() });
        }
        let (front, back) = (self.first == Some(b'-'), self.last == Some(b'-'));
        if front && !before || back && !self.star_behind {
            return None;
        }
        let is_number = self.end == body.len() && !self.has_choice && self.is_number(body);
        match (is_number && !front && !back, before) {
            (true, _) if !star => None,
            (true, true) => Some(Fills { front: true, ..Fills::default() }),
            (true, false) => Some(Fills { inside: true, ..Fills::default() }),
            (false, _) => Some(Fills { front, inside: false, back }),
        }
    }

    /// Whether what is kept is a number, which the last label of a name is not.
    fn is_number(&self, body: &[u8]) -> bool {
        let kept = body.get(self.begin..self.end).unwrap_or_default().iter();
        let kept: String =
            kept.filter(|byte| **byte != b'*').map(|byte| char::from(*byte)).collect();
        DnsName::looks_numeric(&kept)
    }
}

/// The places of a label where a letter stands for a star: before all that is kept, at the first
/// star inside, behind all that is kept.
#[derive(Debug, Clone, Copy, Default)]
struct Fills {
    front: bool,
    inside: bool,
    back: bool,
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::net::Host;

    /// All texts of a body with at most that many bytes for each star.
    fn texts(body: &str, bytes: usize) -> Vec<String> {
        let mut texts = vec![String::new()];
        for byte in body.chars() {
            let fills: Vec<String> = match byte {
                '*' => (0..=bytes).flat_map(words).collect(),
                '?' => words(1),
                other => vec![other.to_string()],
            };
            texts =
                texts.iter().flat_map(|t| fills.iter().map(move |f| format!("{t}{f}"))).collect();
        }
        texts
    }

    fn words(length: usize) -> Vec<String> {
        (0..length).fold(vec![String::new()], |words, _| {
            words.iter().flat_map(|word| [".", "g"].map(|byte| format!("{word}{byte}"))).collect()
        })
    }

    fn is_name(text: &str, longest: usize) -> bool {
        DnsName::parse(text.as_bytes()).is_ok()
            && !text.ends_with('.')
            && text.split('.').all(|label| label.len() <= longest)
    }

    proptest! {
        /// Against all ways to fill the wildcards, with labels of at most three bytes.
        #[test]
        fn shortest_is_the_shortest(
            body in vec(select(&["a", "1", "-", ".", "?", "*", "a", "?"][..]), 1..8),
        ) {
            let body = body.concat();
            prop_assume!(!body.contains("**") && body.matches('*').count() <= 3);
            let all = texts(&body, 3);
            let expected = all.iter().filter(|text| is_name(text, 3)).map(String::len).min();
            let found = shortest(&body, 3);
            prop_assert_eq!(found.as_ref().map(String::len), expected, "{}: {:?}", body, found);
            if let Some(found) = found {
                prop_assert!(is_name(&found, 3), "{}: {}", body, found);
                prop_assert!(Glob::new(Prefix::Body, &body).matches(&found), "{}: {}", body, found);
            }
        }

        /// A witness is a host, and what is the definition of matching says that it matches.
        #[test]
        fn witnesses_match(
            prefix in select(&[Prefix::Body, Prefix::Below, Prefix::BodyAndBelow][..]),
            body in vec(select(PIECES), 1..10),
        ) {
            let body = body.concat();
            prop_assume!(!body.ends_with('.'));
            let glob = Glob::new(prefix, &body);
            if let Ok(name) = glob.name() {
                prop_assert_eq!(Host::parse(name.as_bytes()), Ok(Host::Name(name.clone())));
                prop_assert!(glob.matches(name.as_str()), "{}: {}", glob, name);
            }
        }
    }

    const PIECES: &[&str] = &[
        "a",
        "1",
        "-",
        ".",
        "?",
        "*",
        "_",
        "xn--",
        "xn--bcher-kva",
        "xn--4db",
        ".*",
        "?.",
        "*-",
        "0x",
        "????????????????????????????????????????",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];

    #[test]
    fn limits() {
        let run = |count: usize| "a".repeat(count);
        for (body, error) in [
            (format!("*{}", "?".repeat(253)), None),
            (format!("*{}", "?".repeat(254)), Some(DnsNameError::TooLong)),
            (format!("*{}*", run(63)), None),
            (format!("*{}*", run(64)), Some(DnsNameError::LabelTooLong)),
            (format!("{}?{}", run(63), run(63)), None),
            (format!("{}?{}", run(64), run(63)), Some(DnsNameError::LabelTooLong)),
            (format!("{}*{}", run(63), run(63)), None),
            (format!("{}?-{}", run(60), run(62)), Some(DnsNameError::LabelTooLong)),
            (format!("{}*-{}", run(60), run(62)), Some(DnsNameError::LabelTooLong)),
            (format!("{}*-{}", run(60), run(61)), None),
            // 253 bytes leave nothing for a dot that is not written.
            (
                format!("{}*{}.{}.{}", run(63), run(63), run(63), run(62)),
                Some(DnsNameError::TooLong),
            ),
            (format!("{}*{}.{}.{}", run(63), run(63), run(63), run(61)), None),
            (format!("{}?{}.{}.{}", run(63), run(63), run(63), run(61)), None),
            (format!("{}.*{}", run(63), "1".repeat(63)), Some(DnsNameError::LabelTooLong)),
            (format!("{}.*{}", run(63), "1".repeat(62)), None),
            ("xn--*".into(), None),
            ("xn--a*b.test".into(), None),
            ("xn--?*".into(), None),
            ("xn--??".into(), Some(DnsNameError::ALabel)),
            ("?n--?".into(), None),
        ] {
            assert_eq!(name(&body, DnsName::MAX_LEN).err(), error, "{body}");
        }
    }
}
