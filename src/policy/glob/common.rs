//! A name that two patterns both match.
//!
//! Found by following both at once, so in no more steps than the product of their lengths. A text
//! that is no legal name is not taken; another one could exist then, which is not looked for.

use std::collections::VecDeque;

use super::{Glob, Prefix};
use crate::{
    net::DnsName,
    policy::{Pattern, Shape},
};

/// Whether no name can end as both do. No is no verdict.
pub(in crate::policy) fn are_apart(one: &Pattern, other: &Pattern) -> bool {
    let (one, other) = (end(one), end(other));
    !one.ends_with(other) && !other.ends_with(one)
}

/// What every name that a pattern matches ends in.
fn end(pattern: &Pattern) -> &str {
    match pattern.shape() {
        Shape::Exact(name) | Shape::Subdomains(name) | Shape::Tree(name) => name.as_str(),
        Shape::Glob(glob) => glob.literal_end(),
        Shape::Any | Shape::Address(_) => "",
    }
}

/// A name that both match, their ports aside.
pub(in crate::policy) fn name_of_both(one: &Pattern, other: &Pattern) -> Option<DnsName> {
    let (ones, others) = (bodies(one), bodies(other));
    let common = |one: &str, other: &str, marks: Marks| {
        let text = text_of_both(one.as_bytes(), other.as_bytes(), marks)?;
        // A dot at the end is none of the name's.
        DnsName::parse(&text).ok().filter(|name| name.as_str().as_bytes() == text)
    };
    // With a letter or digit in each star's place first: `build-*` is no label without.
    let filled = |body: &str| body.replace('*', "?*").replace("??*", "?*");
    let pairs = || ones.iter().flat_map(|one| others.iter().map(move |other| (one, other)));
    let found = pairs()
        .find_map(|(one, other)| common(&filled(one), &filled(other), Marks::LettersAndDigits));
    found.or_else(|| pairs().find_map(|(one, other)| common(one, other, Marks::Anything)))
}

/// What `?` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks {
    Anything,
    /// No dot and no hyphen, between which a label needs something.
    LettersAndDigits,
}

impl Marks {
    fn stands_for(self, byte: u8) -> bool {
        self == Self::Anything || !matches!(byte, b'.' | b'-')
    }
}

/// Stands where both have a wildcard.
const LETTER: u8 = b'g';

/// The texts that a pattern of names means, with `*` and `?` in them.
fn bodies(pattern: &Pattern) -> Vec<String> {
    let expanded = |prefix: Prefix, body: &str| match prefix {
        Prefix::Body => vec![body.to_owned()],
        Prefix::Below => vec![format!("?*.{body}")],
        Prefix::BodyAndBelow => vec![body.to_owned(), format!("?*.{body}")],
    };
    match pattern.shape() {
        Shape::Exact(name) => expanded(Prefix::Body, name.as_str()),
        Shape::Subdomains(base) => expanded(Prefix::Below, base.as_str()),
        Shape::Tree(base) => expanded(Prefix::BodyAndBelow, base.as_str()),
        Shape::Glob(Glob { prefix, body }) => expanded(*prefix, body),
        Shape::Any => expanded(Prefix::Body, "*"),
        Shape::Address(_) => Vec::new(),
    }
}

/// How far both have been followed.
type Places = (usize, usize);

/// A shortest text that two bodies describe.
fn text_of_both(one: &[u8], other: &[u8], marks: Marks) -> Option<Vec<u8>> {
    let width = other.len() + 1;
    let number = |(i, j): Places| i * width + j;
    // From where each place was reached first, and by which byte.
    let mut reached: Vec<Option<(Places, Option<u8>)>> = vec![None; (one.len() + 1) * width];
    let mut open = VecDeque::from([((0, 0), (0, 0), None)]);
    while let Some((at, from, byte)) = open.pop_front() {
        let slot = reached.get_mut(number(at))?;
        if slot.is_some() {
            continue;
        }
        *slot = Some((from, byte));
        let (i, j) = at;
        let (a, b) = (one.get(i).copied(), other.get(j).copied());
        if a == Some(b'*') {
            open.push_front(((i + 1, j), at, None));
        }
        if b == Some(b'*') {
            open.push_front(((i, j + 1), at, None));
        }
        let literal = |byte: u8| if byte == b'?' { LETTER } else { byte };
        match (a, b) {
            (None, None) => return Some(text_to(&reached, at, number)),
            (Some(b'*'), Some(b'*')) | (None, Some(_)) | (Some(_), None) => {}
            (Some(b'*'), Some(b)) => open.push_back(((i, j + 1), at, Some(literal(b)))),
            (Some(a), Some(b'*')) => open.push_back(((i + 1, j), at, Some(literal(a)))),
            (Some(b'?'), Some(b)) if marks.stands_for(b) => {
                open.push_back(((i + 1, j + 1), at, Some(literal(b))))
            }
            (Some(a), Some(b)) if a == b || b == b'?' && marks.stands_for(a) => {
                open.push_back(((i + 1, j + 1), at, Some(a)));
            }
            (Some(_), Some(_)) => {}
        }
    }
    None
}

fn text_to(
    reached: &[Option<(Places, Option<u8>)>],
    mut at: Places,
    number: impl Fn(Places) -> usize,
) -> Vec<u8> {
    let mut text = Vec::new();
    while at != (0, 0) {
        let Some((from, byte)) = reached.get(number(at)).copied().flatten() else { break };
        text.extend(byte);
        at = from;
    }
    text.reverse();
    text
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::net::Host;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn overlaps() {
        for (one, other, exists) in [
            ("build-*.example.com", "*.ci.example.com", true),
            ("a*.test", "*b.test", true),
            ("a?.test", "**.test", true),
            ("ab*.test", "a*b.test", true),
            ("*", "x.test", true),
            ("a*.test", "b*.test", false),
            ("**.example.com", "*.org", false),
            ("a?.test", "a*bc.test", false),
            ("a.a*", "*.*.*", true),
        ] {
            let found = name_of_both(&pattern(one), &pattern(other));
            assert_eq!(found.is_some(), exists, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_matched_by_both(
            one in vec(select(PIECES), 1..6),
            other in vec(select(PIECES), 1..6),
        ) {
            let (one, other) = (Pattern::parse(&one.concat()), Pattern::parse(&other.concat()));
            if let (Ok(one), Ok(other)) = (one, other)
                && let Some(name) = name_of_both(&one, &other)
            {
                let host = Host::Name(name);
                prop_assert!(!are_apart(&one, &other));
                prop_assert!(one.matches(&host) && other.matches(&host), "{one} {other} {host}");
            }
        }
    }

    const PIECES: &[&str] = &["*.", "**.", "a", "b", "*", "?", ".a", ".test", "b*", "-"];
}
