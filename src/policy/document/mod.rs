//! The policy file as it is written: every value with the place it stands at.
//!
//! The only reader of `requirements.toml`. It knows keys, types and shapes; what a pattern means
//! is not its business. Nothing of a file with errors is used.

mod reader;
mod syntax;

use std::ops::Range;

use toml::de::DeTable;

pub(super) use self::syntax::{duplicate_key, key_text};
use self::{
    reader::{Reader, in_file_order, misplaced},
    syntax::syntax_problems,
};
use super::{
    List, Problem,
    keys::TABLE,
    lift::{Item, Lifted, lift},
    problems::Problems,
    sockets::Sockets,
};
use crate::net::Port;

/// A requirements file, syntactically sound.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// The table that is ours, if the file has it.
    pub(super) network: Option<Network>,
    /// Top-level keys and tables that belong to somebody else.
    pub(super) foreign: Vec<String>,
}

/// `[experimental_network]`.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) enabled: Option<bool>,
    pub(super) allow_local_binding: Option<bool>,
    pub(super) allow_non_loopback_proxy: Option<bool>,
    pub(super) allow_upstream_proxy: Option<bool>,
    pub(super) http_port: Option<Port>,
    pub(super) socks_port: Option<Port>,
    pub(super) sockets: Sockets,
    /// Every key that is no list of domains, to be compared.
    pub(super) switches: Vec<Written>,
    /// In the order of the file.
    pub(super) entries: Vec<Entries>,
    /// Where the list of allows begins, to point at when nothing in it matches.
    pub(super) allow_at: Option<usize>,
}

/// A key with its value, in one spelling.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) key: &'static str,
    pub(super) value: String,
    pub(super) at: usize,
}

/// Patterns that stand together, under one key.
#[derive(Debug)]
pub(super) struct Entries {
    /// The key, for messages.
    pub(super) key: &'static str,
    /// Plain strings, as places in the text.
    pub(super) lifted: Vec<Item>,
    /// What had to be read as TOML; it stands behind the plain ones.
    pub(super) read: Vec<Entry>,
}

/// One pattern of a list.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) span: Range<usize>,
    pub(super) list: List,
}

/// The largest policy file that is read, in bytes.
pub const MAX_BYTES: usize = 64 << 20;

/// Reads a file; with errors among the problems, the document is not to be used.
pub(super) fn read(bytes: &[u8]) -> (Document, Problems) {
    let text = match decode(bytes) {
        Ok(text) => text,
        Err(problem) => return (Document::default(), [problem].into_iter().collect()),
    };
    read_rest(text, &lift(text))
}

/// Reads a text out of which lists have been lifted, or have not.
fn read_rest(text: &str, lifted: &Lifted<'_>) -> (Document, Problems) {
    let (root, errors) = DeTable::parse_recoverable(&lifted.rest);
    if !errors.is_empty() {
        return (Document::default(), syntax_problems(text, &errors).into_iter().collect());
    }
    let mut reader = Reader { problems: Problems::default(), lifted };
    let mut document = Document::default();
    for (key, value) in in_file_order(root.get_ref()) {
        if key.get_ref() == TABLE {
            document.network = Some(reader.network(key, value));
        } else if let Some(problem) = misplaced(key) {
            reader.problems.push(problem);
        } else {
            document.foreign.push(key.get_ref().to_string());
        }
    }
    (document, reader.problems)
}

fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() > MAX_BYTES {
        return Err(Problem::error(0..0, "file is larger than 64 MiB")
            .with_help("split the policy, or deny with wildcards"));
    }
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err(Problem::error(0..2, "file is UTF-16; TOML is UTF-8")
            .with_help("save the file as UTF-8"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let byte = bytes.get(at).copied().unwrap_or(0);
        Problem::error(at..at + 1, format!("byte 0x{byte:02x} at offset {at} is not valid UTF-8"))
            .with_help("save the file as UTF-8")
    })
}

/// At most 60 characters of a text, control characters escaped.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// What a text says: its patterns with their places, and what is wrong with it.
    type Said = (Vec<(String, Range<usize>, List)>, Vec<String>);

    fn said(text: &str, lifted: &Lifted<'_>) -> Said {
        let (document, problems) = read_rest(text, lifted);
        let entries = document.network.unwrap_or_default().entries;
        let patterns = entries.iter().flat_map(|entries| {
            let lifted = entries.lifted.iter().map(|item| {
                let span = item.span();
                let inner = text.get(span.start + 1..span.end - 1).unwrap();
                (inner.to_owned(), span, item.list)
            });
            let read = entries.read.iter();
            lifted.chain(read.map(|entry| (entry.text.clone(), entry.span.clone(), entry.list)))
        });
        let problems = problems.in_file_order().into_iter().map(|problem| format!("{problem:?}"));
        (patterns.collect(), problems.collect())
    }

    fn compare(text: &str) -> Result<(), TestCaseError> {
        let whole = said(text, &Lifted::nothing(text));
        // A key that stands twice in a lifted table is found later, when its rules are compiled.
        if !whole.1.iter().any(|problem| problem.contains("duplicate")) {
            prop_assert_eq!(said(text, &lift(text)), whole, "{}", text);
        }
        Ok(())
    }

    const PIECES: &[&str] = &[
        "[experimental_network]\n",
        "[experimental_network.domains]\n",
        "[[experimental_network.domains]]\n",
        "[ experimental_network . domains ] # c\n",
        "experimental_network = {",
        "experimental_network.",
        "allowed_domains = [",
        "denied_domains=[",
        "\"a.test\"",
        "'b.test'",
        "\"c\\u0041\"",
        "\"\"\"x\"\"\"",
        "'''\n[experimental_network.domains]\n'''",
        "\"d.test\" = \"allow\"\n",
        "'e.test' = \"deny\" # c\n",
        "\"f.test\" = 'allow'\n",
        "\"g.test\".x = \"deny\"\n",
        "com = \"allow\"\n",
        "x = 1\n",
        "y = [[1],\n[2]]\n",
        "\"a\" = [\n",
        "],",
        "]\n",
        ", ",
        "= ",
        "}",
        "\n",
        "\r\n",
        "\r",
        "\"",
        "# \u{1}\n",
        "# c\n",
        "b\u{fc}",
    ];

    proptest! {
        #[test]
        fn lifting_changes_nothing(pieces in vec(select(PIECES), 0..14)) {
            let pieces = pieces.concat();
            compare(&pieces)?;
            compare(&format!("[experimental_network]\nallowed_domains = [{pieces}]\n"))?;
            compare(&format!("[experimental_network.domains]\n{pieces}"))?;
        }
    }

    #[test]
    fn plain_lists_are_lifted() {
        let blank = |count| " ".repeat(count);
        for (text, rest) in [
            (
                "allowed_domains = [\"a\", # x\n 'b',\n]\n",
                format!("allowed_domains = [{}]\n", blank(15)),
            ),
            (
                "[experimental_network.domains]\n\"a\" = \"deny\" # x\n'b'='deny'\n",
                format!("[experimental_network.domains]\n{} # x\n'b'='deny'\n", blank(12)),
            ),
            ("allowed_domains = [\"a\", 1]\n", "allowed_domains = [\"a\", 1]\n".to_owned()),
            (
                "s = '''\nallowed_domains = [\"a\"]'''\n",
                "s = '''\nallowed_domains = [\"a\"]'''\n".to_owned(),
            ),
        ] {
            assert_eq!(lift(text).rest, rest);
        }
    }
}
