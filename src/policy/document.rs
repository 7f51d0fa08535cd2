//! The policy file as it is written: every value with the place it stands at.
//!
//! The only reader of `requirements.toml`. It knows keys, types and shapes; what a pattern means
//! is not its business. Nothing of a file with errors is used.

use std::{borrow::Cow, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    List, Problem,
    keys::{self, TABLE, Unknown},
    lift::{Item, Lifted, lift},
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
    pub(super) http_port: Option<Port>,
    /// In the order of the file.
    pub(super) entries: Vec<Entries>,
    /// Where the list of allows begins, to point at when nothing in it matches.
    pub(super) allow_at: Option<usize>,
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
pub(super) fn read(bytes: &[u8]) -> (Document, Vec<Problem>) {
    let text = match decode(bytes) {
        Ok(text) => text,
        Err(problem) => return (Document::default(), vec![problem]),
    };
    read_rest(text, &lift(text))
}

/// Reads a text out of which lists have been lifted, or have not.
fn read_rest(text: &str, lifted: &Lifted<'_>) -> (Document, Vec<Problem>) {
    let (root, errors) = DeTable::parse_recoverable(&lifted.rest);
    if !errors.is_empty() {
        return (Document::default(), syntax_problems(text, &errors));
    }
    let mut reader = Reader { problems: Vec::new(), lifted };
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

/// What is wrong with the text as it is written; `errors` are those of the text without its lists.
fn syntax_problems(text: &str, errors: &[toml::de::Error]) -> Vec<Problem> {
    let (_, whole) = DeTable::parse_recoverable(text);
    let errors = if whole.is_empty() { errors } else { whole.as_slice() };
    let mut traced = 0;
    let problem = |error: &toml::de::Error| {
        let traceable = error.span().filter(|_| is_duplicate(error) && traced < MAX_TRACED);
        let Some(span) = traceable else { return syntax_problem(text, error) };
        traced += 1;
        first_of(text, &span).map_or_else(
            || syntax_problem(text, error),
            |first| {
                let line = text.bytes().take(first.start).filter(|byte| *byte == b'\n').count() + 1;
                duplicate_key(text, span, (first.start, line))
            },
        )
    };
    errors.iter().map(problem).collect()
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

/// A key that stands twice; `first` is where it stands before, and the line of that.
pub(super) fn duplicate_key(text: &str, span: Range<usize>, first: (usize, usize)) -> Problem {
    let quoted = shorten(text.get(span.clone()).unwrap_or(""));
    let (start, line) = first;
    let before = text.get(..start).unwrap_or("");
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let message = format!(
        "invalid TOML: duplicate key: `{quoted}` stands on line {line}, column {column} already"
    );
    Problem::error(span, message).with_help("keep one of them")
}

/// What a key means, of which that is written: TOML compares keys without their quotes and escapes.
pub(super) fn key_text(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        let quoted = raw.len() >= 2 && raw.starts_with(['"', '\'']);
        let inner = if quoted { raw.get(1..raw.len() - 1) } else { None };
        return inner.unwrap_or(raw).into();
    }
    let line = format!("{raw} = 0");
    let parsed = DeTable::parse(&line).ok();
    let key = parsed
        .and_then(|table| table.get_ref().iter().next().map(|(key, _)| key.get_ref().to_string()));
    key.map_or(raw.into(), Cow::Owned)
}

/// Where the key that an error calls a duplicate stands before: the one without which it is none.
fn first_of(text: &str, second: &Range<usize>) -> Option<Range<usize>> {
    let wanted = key_text(text.get(second.clone())?);
    let (before, _) = DeTable::parse_recoverable(text.get(..second.start)?);
    let mut candidates = Vec::new();
    keys_like(&wanted, before.get_ref(), &mut candidates);
    candidates.sort_by_key(|span| std::cmp::Reverse(span.start));
    candidates.into_iter().take(MAX_CANDIDATES).find(|candidate| {
        let mut other = text.to_owned();
        other.replace_range(candidate.clone(), &"_".repeat(candidate.len()));
        let (_, errors) = DeTable::parse_recoverable(&other);
        !errors.iter().any(|error| is_duplicate(error) && error.span().as_ref() == Some(second))
    })
}

/// Each is tried by reading the file once more.
const MAX_CANDIDATES: usize = 8;

/// So many duplicates of a file are told where they stand first.
const MAX_TRACED: usize = 8;

fn keys_like(wanted: &str, table: &DeTable<'_>, found: &mut Vec<Range<usize>>) {
    for (key, value) in table.iter() {
        if key.get_ref() == wanted {
            found.push(key.span());
        }
        keys_in(wanted, value.get_ref(), found);
    }
}

fn keys_in(wanted: &str, value: &DeValue<'_>, found: &mut Vec<Range<usize>>) {
    match value {
        DeValue::Table(table) => keys_like(wanted, table, found),
        DeValue::Array(array) => {
            array.iter().for_each(|item| keys_in(wanted, item.get_ref(), found));
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message().contains("duplicate")
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let offending = text.get(span.clone()).unwrap_or("");
    let message = match shorten(offending) {
        quoted if quoted.is_empty() => format!("invalid TOML: {}", error.message()),
        quoted => format!("invalid TOML: {}: `{quoted}`", error.message()),
    };
    let problem = Problem::error(span, message);
    let problem = match error.message() {
        message if message.contains("recursion") => {
            problem.with_help("nesting is limited to 80 levels")
        }
        _ if is_duplicate(error) => problem.with_help("keep one of them"),
        _ => problem,
    };
    match offending.contains('\r') {
        true => problem.with_help("end each line with a line feed"),
        false => problem,
    }
}

/// At most 60 characters of a text, control characters escaped.
pub(super) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push_str("...");
    }
    short
}

fn in_file_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// Collects problems while it walks.
struct Reader<'l> {
    problems: Vec<Problem>,
    lifted: &'l Lifted<'l>,
}

type Key<'i> = Spanned<Cow<'i, str>>;
type Value<'i> = Spanned<DeValue<'i>>;

impl Reader<'_> {
    fn network(&mut self, key: &Key<'_>, value: &Value<'_>) -> Network {
        let mut network = Network::default();
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(TABLE, "a table", value);
            return network;
        };
        let entries = in_file_order(table);
        self.shapes(&entries, "domains", &["allowed_domains", "denied_domains"]);
        self.shapes(&entries, "unix_sockets", &["allow_unix_sockets"]);
        for (key, value) in &entries {
            let at = key.span().start;
            match key.get_ref().as_ref() {
                "enabled" => network.enabled = self.boolean(key, value),
                "allow_local_binding" => network.allow_local_binding = self.boolean(key, value),
                "dangerously_allow_non_loopback_proxy" => {
                    network.allow_non_loopback_proxy = self.boolean(key, value);
                }
                "managed_allowed_domains_only"
                | "dangerously_allow_all_unix_sockets"
                | "allow_upstream_proxy" => {
                    self.boolean(key, value);
                }
                "http_port" => network.http_port = self.port(key, value),
                "socks_port" => {
                    self.port(key, value);
                }
                "allowed_domains" => {
                    network.allow_at.get_or_insert(at);
                    network.entries.push(self.list("allowed_domains", List::Allow, value));
                }
                "denied_domains" => {
                    network.entries.push(self.list("denied_domains", List::Deny, value));
                }
                "domains" => {
                    network.allow_at.get_or_insert(at);
                    network.entries.push(self.domains(value));
                }
                "allow_unix_sockets" => self.socket_list(value),
                "unix_sockets" => self.socket_table(value),
                unknown => self.unknown(unknown, key),
            }
        }
        if !entries.iter().any(|(key, _)| key.get_ref() == "enabled") {
            self.problems.push(
                Problem::warning(key.span(), "`enabled` is not set; the policy is in force")
                    .with_help("write `enabled = true`: Codex starts its proxy only then"),
            );
        }
        network
    }

    /// Two shapes of one thing in one document: an error at whichever stands second.
    fn shapes(&mut self, entries: &[(&Key<'_>, &Value<'_>)], canonical: &str, legacy: &[&str]) {
        let of = |name: &str| entries.iter().find(|(key, _)| key.get_ref() == name);
        let Some((table, _)) = of(canonical) else { return };
        for old in legacy {
            let Some((list, _)) = of(old) else { continue };
            let second = if list.span().start > table.span().start { list } else { table };
            self.problems.push(
                Problem::error(
                    second.span(),
                    format!("`{canonical}` and `{old}` cannot be combined"),
                )
                .with_help(format!("move the entries of `{old}` into `{canonical}`")),
            );
        }
    }

    fn unknown(&mut self, name: &str, key: &Key<'_>) {
        let quoted = shorten(name);
        self.problems.push(match keys::classify(name) {
            Unknown::Typo(known) => Problem::error(key.span(), format!("unknown key `{quoted}`"))
                .with_help(format!("did you mean `{known}`?")),
            Unknown::Other => {
                Problem::warning(key.span(), format!("unknown key `{quoted}` is ignored"))
                    .with_help(format!("known keys: {}", keys::KEYS.join(", ")))
            }
        });
    }

    fn boolean(&mut self, key: &Key<'_>, value: &Value<'_>) -> Option<bool> {
        let DeValue::Boolean(boolean) = value.get_ref() else {
            self.wrong_type(key.get_ref(), "a boolean (`true` or `false`)", value);
            return None;
        };
        Some(*boolean)
    }

    fn port(&mut self, key: &Key<'_>, value: &Value<'_>) -> Option<Port> {
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(key.get_ref(), "a port from 1 to 65535", value);
            return None;
        };
        let number = u16::from_str_radix(integer.as_str(), integer.radix()).ok();
        let port = number.and_then(Port::new);
        if port.is_none() {
            self.problems.push(
                Problem::error(
                    value.span(),
                    format!("`{}` is not a port: it must be from 1 to 65535", key.get_ref()),
                )
                .with_help("the default is 3128 for `http_port` and 8081 for `socks_port`"),
            );
        }
        port
    }

    fn list(&mut self, key: &'static str, list: List, value: &Value<'_>) -> Entries {
        let lifted = self.lifted.list_at(value.span().start).to_vec();
        let mut entries = Entries { key, lifted, read: Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type(key, "a list of patterns", value);
            return entries;
        };
        for item in array.iter() {
            let DeValue::String(text) = item.get_ref() else {
                self.wrong_type(key, "a list of patterns, each a string", item);
                continue;
            };
            entries.read.push(Entry { text: text.to_string(), span: item.span(), list });
        }
        entries
    }

    fn domains(&mut self, value: &Value<'_>) -> Entries {
        let lifted = self.lifted.domains().to_vec();
        let mut entries = Entries { key: "domains", lifted, read: Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type("domains", "a table of pattern = \"allow\" or \"deny\"", value);
            return entries;
        };
        for (key, verdict) in in_file_order(table) {
            let list = match verdict.get_ref() {
                DeValue::String(word) if word == "allow" => List::Allow,
                DeValue::String(word) if word == "deny" => List::Deny,
                DeValue::String(word) => {
                    self.problems.push(wrong_verdict("domains", key, word, verdict));
                    continue;
                }
                DeValue::Table(_) => {
                    self.problems.push(unquoted_pattern(key));
                    continue;
                }
                DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_) => {
                    self.wrong_type(&shorten(key.get_ref()), "\"allow\" or \"deny\"", verdict);
                    continue;
                }
            };
            let text = key.get_ref().to_string();
            entries.read.push(Entry { text, span: key.span(), list });
        }
        entries
    }

    fn socket_list(&mut self, value: &Value<'_>) {
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type("allow_unix_sockets", "a list of socket paths", value);
            return;
        };
        for item in array.iter() {
            let DeValue::String(path) = item.get_ref() else {
                self.wrong_type("allow_unix_sockets", "a list of socket paths", item);
                continue;
            };
            self.socket_path(path, item.span());
        }
    }

    fn socket_table(&mut self, value: &Value<'_>) {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type("unix_sockets", "a table of path = \"allow\" or \"deny\"", value);
            return;
        };
        for (key, verdict) in in_file_order(table) {
            self.socket_path(key.get_ref(), key.span());
            let DeValue::String(word) = verdict.get_ref() else {
                self.wrong_type(&shorten(key.get_ref()), "\"allow\" or \"deny\"", verdict);
                continue;
            };
            // `none` is how older files say deny.
            if !matches!(word.as_ref(), "allow" | "deny" | "none") {
                self.problems.push(wrong_verdict("unix_sockets", key, word, verdict));
            }
        }
    }

    fn socket_path(&mut self, path: &str, span: Range<usize>) {
        if !path.starts_with('/') || path.contains('\0') {
            self.problems.push(
                Problem::error(span, format!("`{}` is not an absolute path", shorten(path)))
                    .with_help("write the whole path of the socket, from `/`"),
            );
        }
    }

    fn wrong_type(&mut self, key: &str, expected: &str, value: &Value<'_>) {
        self.problems.push(Problem::error(
            value.span(),
            format!("`{key}` must be {expected}, not {}", article(value.get_ref().type_str())),
        ));
    }
}

fn wrong_verdict(table: &str, key: &Key<'_>, word: &str, verdict: &Value<'_>) -> Problem {
    let (key, word) = (shorten(key.get_ref()), shorten(word));
    Problem::error(verdict.span(), format!("`{word}` is no verdict for `{key}` in `{table}`"))
        .with_help("write \"allow\" or \"deny\", in lower case")
}

/// A top-level key that was probably meant for our table: its name misspelt, or its header
/// forgotten. Taken for somebody else's, it would deny nothing.
fn misplaced(key: &Key<'_>) -> Option<Problem> {
    let name = key.get_ref().as_ref();
    let quoted = shorten(name);
    if keys::is_about_domains(name) {
        let message = format!("`{quoted}` stands outside `[{TABLE}]`");
        let help = format!("write the line `[{TABLE}]` above it");
        return Some(Problem::error(key.span(), message).with_help(help));
    }
    keys::is_near_table(name).then(|| {
        Problem::error(key.span(), format!("unknown table `{quoted}`"))
            .with_help(format!("did you mean `{TABLE}`?"))
    })
}

/// `domains.example.com = "allow"` makes a table `example`, not a pattern.
fn unquoted_pattern(key: &Key<'_>) -> Problem {
    Problem::error(key.span(), format!("`{}` in `domains` is a table", shorten(key.get_ref())))
        .with_help("put the pattern in quotes: `domains.\"example.com\" = \"allow\"`")
}

fn article(type_name: &str) -> String {
    match type_name.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {type_name}"),
        false => format!("a {type_name}"),
    }
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
        let problems = problems.into_iter().map(|problem| format!("{problem:?}"));
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
