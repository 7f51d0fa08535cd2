//! Long lists of patterns, lifted out of a policy file before it is read as TOML.
//!
//! A file of a million rules is one of a million strings, and a tree of them takes ten times the
//! memory and most of the time. So the lists are read token by token, each string as the place it
//! stands at, and blanked in the text that the TOML reader gets: it sees empty lists, at the same
//! places. Only what needs no interpretation is lifted: a list of plain strings and nothing else,
//! lines of a plain string and its verdict. Everything else, and everything wrong, stays where it
//! is, for the TOML reader to judge.

#![expect(clippy::wildcard_enum_match_arm, reason = "there are many tokens, and few matter here")]

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use toml_parser::{
    Source,
    lexer::{Lexer, Token, TokenKind},
};

use super::{List, keys::TABLE};

/// A file's long lists, and the rest of it.
#[derive(Debug)]
pub(super) struct Lifted<'t> {
    /// The file with blanks in place of what was lifted.
    pub(super) rest: Cow<'t, str>,
    items: Vec<Item>,
    /// By the place of the bracket each list begins with.
    lists: BTreeMap<usize, Range<usize>>,
    domains: Range<usize>,
}

/// A pattern: where its string stands, quotes included, and its verdict.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    start: u32,
    end: u32,
    pub(super) list: List,
}

/// Reads the tokens of a file.
struct Lifter<'t> {
    text: &'t str,
    tokens: Lexer<'t>,
    /// A token that was read too far.
    back: Option<Token>,
    items: Vec<Item>,
    blanks: Vec<Range<usize>>,
    lists: BTreeMap<usize, Range<usize>>,
    domains: Range<usize>,
}

/// Lifts the lists out of a text of less than 4 GiB.
pub(super) fn lift(text: &str) -> Lifted<'_> {
    let mut lifter = Lifter {
        text,
        tokens: Source::new(text).lex(),
        back: None,
        items: Vec::new(),
        blanks: Vec::new(),
        lists: BTreeMap::new(),
        domains: 0..0,
    };
    lifter.file();
    let Lifter { items, blanks, lists, domains, .. } = lifter;
    Lifted { rest: blanked(text, &blanks), items, lists, domains }
}

impl<'t> Lifted<'t> {
    /// A text out of which nothing is lifted.
    #[cfg(test)]
    pub(super) fn nothing(text: &'t str) -> Self {
        let (rest, items, lists, domains) = (text.into(), Vec::new(), BTreeMap::new(), 0..0);
        Self { rest, items, lists, domains }
    }

    /// What stood in the list whose bracket is at that place.
    pub(super) fn list_at(&self, bracket: usize) -> &[Item] {
        let range = self.lists.get(&bracket).cloned().unwrap_or_default();
        self.items.get(range).unwrap_or_default()
    }

    /// What stood in `[experimental_network.domains]`.
    pub(super) fn domains(&self) -> &[Item] {
        self.items.get(self.domains.clone()).unwrap_or_default()
    }
}

impl Item {
    pub(super) fn span(&self) -> Range<usize> {
        let place = |at| usize::try_from(at).unwrap_or(usize::MAX);
        place(self.start)..place(self.end)
    }
}

impl<'t> Lifter<'t> {
    fn file(&mut self) {
        let mut key = None;
        let mut line_begins = true;
        while let Some(token) = self.next() {
            match token.kind() {
                TokenKind::Eof => return,
                TokenKind::LeftSquareBracket if line_begins && self.is_domains_header() => {
                    self.domains();
                }
                TokenKind::Equals => self.value_of(key),
                _ => {}
            }
            line_begins = match token.kind() {
                TokenKind::Newline => true,
                TokenKind::Whitespace => line_begins,
                _ => false,
            };
            key = match token.kind() {
                TokenKind::Atom => Some(self.raw(token)),
                TokenKind::Whitespace => key,
                _ => None,
            };
        }
    }

    /// The rest of a line that began with a bracket; the line's end is left.
    fn is_domains_header(&mut self) -> bool {
        let expected = [TABLE, ".", "domains", "]"];
        let is_header = expected.into_iter().all(|word| {
            let token = self.next_solid();
            let found = token.is_some_and(|token| self.raw(token) == word);
            if !found {
                self.back = token;
            }
            found
        });
        is_header && self.ends_line()
    }

    /// Lifts the list that is the value of a key, if it is one of ours.
    fn value_of(&mut self, key: Option<&str>) {
        let list = match key {
            Some("allowed_domains") => List::Allow,
            Some("denied_domains") => List::Deny,
            _ => return,
        };
        match self.next_solid() {
            Some(token) if token.kind() == TokenKind::LeftSquareBracket => {
                let (bracket, from) = (token.span().start(), self.items.len());
                match self.strings(list) {
                    Some(end) => {
                        self.lists.insert(bracket, from..self.items.len());
                        self.blanks.push(bracket + 1..end);
                    }
                    None => self.items.truncate(from),
                }
            }
            token => self.back = token,
        }
    }

    /// Strings and commas up to the closing bracket, and where that is. None, if anything else is
    /// met.
    fn strings(&mut self, list: List) -> Option<usize> {
        let mut value_may_follow = true;
        loop {
            let token = self.next()?;
            match token.kind() {
                TokenKind::Whitespace => {}
                // A carriage return alone is a token like these, and no end of a line.
                TokenKind::Newline if self.raw(token).ends_with('\n') => {}
                TokenKind::Comment if is_clean(self.raw(token)) => {}
                TokenKind::BasicString | TokenKind::LiteralString
                    if value_may_follow && self.is_plain(token) =>
                {
                    self.push(token, list)?;
                    value_may_follow = false;
                }
                TokenKind::Comma if !value_may_follow => value_may_follow = true,
                TokenKind::RightSquareBracket => return Some(token.span().start()),
                _ => {
                    self.back = Some(token);
                    return None;
                }
            }
        }
    }

    /// Lines of a pattern and its verdict, up to the first that is anything else.
    fn domains(&mut self) {
        let from = self.items.len();
        while let Some(token) = self.next_solid() {
            match token.kind() {
                TokenKind::Newline => {}
                TokenKind::Comment if is_clean(self.raw(token)) => {}
                TokenKind::BasicString | TokenKind::LiteralString if self.is_plain(token) => {
                    let Some((list, end)) = self.verdict() else { break };
                    if self.push(token, list).is_none() {
                        break;
                    }
                    self.blanks.push(token.span().start()..end);
                }
                _ => {
                    self.back = Some(token);
                    break;
                }
            }
        }
        self.domains = from..self.items.len();
    }

    /// `= "allow"` to the end of the line, and where the verdict ends.
    fn verdict(&mut self) -> Option<(List, usize)> {
        self.next_solid().filter(|token| token.kind() == TokenKind::Equals)?;
        let token = self.next_solid()?;
        let list = match self.raw(token) {
            "\"allow\"" => List::Allow,
            "\"deny\"" => List::Deny,
            _ => return None,
        };
        self.ends_line().then(|| (list, token.span().end()))
    }

    /// Whether nothing but a comment follows on the line; what ends it is left.
    fn ends_line(&mut self) -> bool {
        let mut token = self.next_solid();
        if token
            .is_some_and(|token| token.kind() == TokenKind::Comment && is_clean(self.raw(token)))
        {
            token = self.next_solid();
        }
        self.back = token;
        token.is_some_and(|token| matches!(token.kind(), TokenKind::Newline | TokenKind::Eof))
    }

    fn push(&mut self, token: Token, list: List) -> Option<()> {
        let start = u32::try_from(token.span().start()).ok()?;
        let end = u32::try_from(token.span().end()).ok()?;
        self.items.push(Item { start, end, list });
        Some(())
    }

    /// A string that means what stands between its quotes.
    fn is_plain(&self, token: Token) -> bool {
        let quote = if token.kind() == TokenKind::BasicString { b'"' } else { b'\'' };
        match self.raw(token).as_bytes() {
            [first, inner @ .., last] if *first == quote && *last == quote => {
                // Neither can be part of a longer character.
                !inner.iter().fold(false, |odd, byte| odd | is_odd(*byte) | (*byte == b'\\'))
            }
            _ => false,
        }
    }

    /// The next token that is no white space.
    fn next_solid(&mut self) -> Option<Token> {
        loop {
            let token = self.next()?;
            if token.kind() != TokenKind::Whitespace {
                return Some(token);
            }
        }
    }

    fn next(&mut self) -> Option<Token> {
        self.back.take().or_else(|| self.tokens.next())
    }

    fn raw(&self, token: Token) -> &'t str {
        self.text.get(token.span().start()..token.span().end()).unwrap_or("")
    }
}

/// Whether a text has none of the control characters that TOML forbids.
fn is_clean(text: &str) -> bool {
    !text.bytes().any(is_odd)
}

fn is_odd(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
}

fn blanked<'t>(text: &'t str, blanks: &[Range<usize>]) -> Cow<'t, str> {
    if blanks.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut bytes = text.as_bytes().to_vec();
    for blank in blanks {
        if let Some(lifted) = bytes.get_mut(blank.clone()) {
            lifted.fill(b' ');
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}
