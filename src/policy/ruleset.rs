//! A policy file that holds: its switches and its rules, ready to be asked.

use std::sync::Arc;

use super::{
    List, Rules, Source,
    rules::Full,
    sockets::{SocketPath, Sockets},
    table::Table,
};
use crate::net::Port;

/// The switches and the rules of one or more documents.
#[derive(Debug)]
pub struct Ruleset {
    /// Whether anything may leave at all.
    pub enabled: bool,
    /// `allow_local_binding`, as written.
    pub allow_local_binding: Option<bool>,
    /// `dangerously_allow_non_loopback_proxy`, as written.
    pub allow_non_loopback_proxy: Option<bool>,
    /// `allow_upstream_proxy`, as written.
    pub allow_upstream_proxy: Option<bool>,
    /// `http_port`.
    pub http_port: Option<Port>,
    /// `socks_port`.
    pub socks_port: Option<Port>,
    /// Every key that is no list of domains, as it is written.
    pub switches: Vec<Switch>,
    /// The file they come from.
    pub source: Arc<Source>,
    /// The line of the list of allows, to point at when nothing in it matches.
    pub allow_line: Option<usize>,
    pub(super) sockets: Sockets,
    pub(super) rules: Rules,
    pub(super) table: Table,
}

/// A key of the table that is no list of domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Its name; of sockets always `unix_sockets`.
    pub key: &'static str,
    /// What it is set to, in one spelling.
    pub value: String,
    /// On which line, from 1.
    pub line: usize,
}

/// More rules than a policy can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the documents hold more rules than a policy can")]
pub struct TooManyRules;

impl Ruleset {
    /// Allow and deny rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Where the list of allows stands: `file:line`, by the file's name or its whole path.
    #[must_use]
    pub fn allow_place(&self, file: &str) -> String {
        match self.allow_line {
            Some(line) => format!("{file}:{line}"),
            None => file.to_owned(),
        }
    }

    /// Whether any unix socket may be asked for.
    #[must_use]
    pub fn allows_sockets(&self) -> bool {
        self.enabled && self.sockets.is_open()
    }

    /// Paths of unix sockets that may be asked for; `/`, if it may be any.
    pub fn allowed_sockets(&self) -> impl Iterator<Item = &str> {
        let any = self.sockets.all.then_some("/");
        any.into_iter().chain(self.sockets.allowed.iter().map(SocketPath::as_str))
    }

    /// How many rules stand in a list.
    #[must_use]
    pub fn count(&self, list: List) -> usize {
        self.rules.count(list)
    }

    /// Adds the denies of another file, which no layer can lift.
    ///
    /// # Errors
    ///
    /// If both together are larger than any one file may be, by far.
    pub fn with_denies_of(mut self, other: &Self, seed: u64) -> Result<Self, TooManyRules> {
        self.rules.extend_with_denies(&other.rules)?;
        self.rules.shrink();
        self.sockets.denied.extend_from_slice(&other.sockets.denied);
        let (table, _) = Table::new(&self.rules, seed)?;
        Ok(Self { table, ..self })
    }

    /// Builds the table of names once more and drops it, to be measured.
    pub fn rebuild(&self, seed: u64) {
        Table::new(&self.rules, seed).ok();
    }

    /// Bytes of memory that the rules about names take, text and lookup included.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.rules.heap_bytes() + self.table.heap_bytes()
    }
}

impl From<Full> for TooManyRules {
    fn from(_: Full) -> Self {
        Self
    }
}
