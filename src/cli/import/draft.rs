//! A policy in the making, from entries of another program.
//!
//! Every entry has a line; what comes of it is a rule, a rule with a remark, or a remark.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

use crate::policy::{List, Pattern, Shape};

/// Rules so far, and what is to be said about them.
#[derive(Debug, Default)]
pub(super) struct Draft {
    rules: Vec<Rule>,
    known: BTreeSet<(List, Pattern)>,
    remarks: Vec<Remark>,
    /// Everything is refused, as `deny *` does.
    is_off: bool,
    /// Something that is refused there is not refused here.
    is_wider: bool,
}

/// One entry of a list, as it is written there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'t> {
    pub(super) line: usize,
    pub(super) text: &'t str,
    pub(super) list: List,
}

#[derive(Debug)]
struct Rule {
    list: List,
    pattern: Pattern,
    /// As it is written there, if that differs.
    was: Option<String>,
}

/// What is to be said about one line; 0 stands for the whole file.
#[derive(Debug)]
pub(super) struct Remark {
    line: usize,
    text: String,
}

impl Draft {
    /// Takes an entry over as a pattern of the same meaning.
    pub(super) fn rule(&mut self, entry: Entry<'_>, pattern: &str) {
        let Entry { line, text, list } = entry;
        let pattern = match Pattern::parse(pattern) {
            Ok(pattern) => pattern,
            Err(error) => return self.untranslated(entry, &error.to_string()),
        };
        match (list, pattern.shape(), pattern.port()) {
            (List::Deny, Shape::Any, None) => {
                self.is_off = true;
                self.remark(line, format!("`{text}` refuses everything: `enabled = false`"));
                return;
            }
            (List::Deny, Shape::Any, Some(_)) => {
                let why = "a port alone cannot be denied here; narrow the allows to ports";
                return self.untranslated(entry, why);
            }
            (List::Deny, _, Some(_)) => {
                self.remark(line, format!("`{text}` is denied on every port here, not on one"));
            }
            (List::Allow, Shape::Glob(glob), _) if glob.is_over_address() => {
                return self.untranslated(entry, "it would allow addresses by their text");
            }
            (List::Allow | List::Deny, _, _) => {}
        }
        let pattern = match list {
            List::Allow => pattern,
            List::Deny => pattern.without_port(),
        };
        if self.known.insert((list, pattern.clone())) {
            let was = (pattern.to_string() != text).then(|| text.to_owned());
            self.rules.push(Rule { list, pattern, was });
        }
    }

    /// Says that an entry is left out, and why.
    pub(super) fn untranslated(&mut self, entry: Entry<'_>, why: &str) {
        let Entry { line, text, list } = entry;
        self.is_wider |= list == List::Deny;
        let effect = match list {
            List::Allow => "not allowed here",
            List::Deny => "NOT DENIED here",
        };
        self.remark(line, format!("`{text}` is {effect}: {why}"));
    }

    /// Says something about a line.
    pub(super) fn remark(&mut self, line: usize, text: impl Into<String>) {
        self.remarks.push(Remark { line, text: text.into() });
    }

    /// Whether something that is refused there is not refused here.
    pub(super) fn is_wider(&self) -> bool {
        self.is_wider
    }

    /// What is to be said, in the order of the file.
    pub(super) fn remarks(&self) -> Vec<&Remark> {
        let mut remarks: Vec<&Remark> = self.remarks.iter().collect();
        remarks.sort_by_key(|remark| remark.line);
        remarks
    }

    /// The patterns of a list so far.
    pub(super) fn patterns(&self, list: List) -> impl Iterator<Item = &Pattern> {
        self.rules.iter().filter(move |rule| rule.list == list).map(|rule| &rule.pattern)
    }

    /// The policy.
    pub(super) fn to_toml(&self, path: &str) -> String {
        let mut text = format!("# What {} says, by `exeat import`.\n", printable(path));
        if self.remarks.is_empty() {
            text.push_str("# Every entry means the same here.\n");
        } else {
            text.push_str("# What means something else here, or is left out, by line:\n");
        }
        for remark in self.remarks() {
            writeln!(text, "#   {remark}").ok();
        }
        writeln!(text, "\n[experimental_network]\nenabled = {}", !self.is_off).ok();
        for list in [List::Allow, List::Deny] {
            let rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.list == list).collect();
            if rules.is_empty() {
                continue;
            }
            writeln!(text, "{} = [", list.key()).ok();
            for Rule { pattern, was, .. } in rules {
                write!(text, "    \"{pattern}\",").ok();
                if let Some(was) = was {
                    write!(text, " # {}", printable(was)).ok();
                }
                text.push('\n');
            }
            text.push_str("]\n");
        }
        text
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was read may hold anything; a comment or a terminal must not act on it.
        match self.line {
            0 => write!(f, " {}", printable(&self.text)),
            line => write!(f, "{line}: {}", printable(&self.text)),
        }
    }
}

/// A text on one line, for comments and terminals: what does not print is escaped.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => printable.push(character),
            _ => printable.extend(character.escape_debug()),
        }
    }
    printable
}

/// The line at which something stands first in a text, from 1.
pub(super) fn line_of(text: &str, needle: &str) -> usize {
    let at = text.find(needle).unwrap_or(0);
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}
