//! A rule: a pattern, the list it stands in, and where that is written.

use std::{cmp::Reverse, fmt, num::NonZeroU32};

use super::{Pattern, Shape};
use crate::net::Host;

/// Which list a rule stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum List {
    /// `allowed_domains`, or `"allow"` in `domains`.
    Allow,
    /// `denied_domains`, or `"deny"` in `domains`.
    Deny,
}

/// Where a policy comes from, as people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    path: String,
    name: String,
}

/// A rule of a policy: where the name in its record ends. Ids rise in the order the rules were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(NonZeroU32);

/// How specific a rule is: of the rules that match, the smallest rank is named as deciding, and
/// of those the first written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u8, Reverse<usize>);

/// A pattern with its verdict and its place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<'p> {
    /// Which hosts.
    pub pattern: Pattern,
    /// Allow or deny.
    pub list: List,
    /// In which file.
    pub source: &'p Source,
    /// On which line of it, from 1.
    pub line: usize,
}

impl List {
    /// `allow` or `deny`, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }

    /// The key that people know the list by.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Allow => "allowed_domains",
            Self::Deny => "denied_domains",
        }
    }
}

impl Source {
    /// A file by its path; clients are shown the last part only.
    #[must_use]
    pub fn file(path: impl Into<String>) -> Self {
        let path = path.into();
        let name = path.rsplit(['/', '\\']).next().unwrap_or(&path).to_owned();
        Self { path, name }
    }

    /// A preset that is compiled in.
    #[must_use]
    pub fn preset(name: &str) -> Self {
        Self { path: format!("preset:{name}"), name: format!("preset:{name}") }
    }

    /// The whole path, for the operator.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file's name alone, for clients.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Rule<'_> {
    /// Whether the rule speaks about the host; the port is not looked at.
    ///
    /// A glob over addresses matches names too when it denies, as in Codex, and addresses only
    /// when it allows.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        let addresses_only = self.list == List::Allow
            && matches!(self.pattern.shape(), Shape::Glob(glob) if glob.is_over_address());
        !(addresses_only && matches!(host, Host::Name(_))) && self.pattern.matches(host)
    }
}

impl RuleId {
    #[inline]
    pub(super) fn at(offset: usize) -> Option<Self> {
        NonZeroU32::new(u32::try_from(offset).ok()?).map(Self)
    }

    #[inline]
    pub(super) fn from_number(number: NonZeroU32) -> Self {
        Self(number)
    }

    #[inline]
    pub(super) fn number(self) -> NonZeroU32 {
        self.0
    }

    #[inline]
    pub(super) fn offset(self) -> usize {
        usize::try_from(self.0.get()).unwrap_or(usize::MAX)
    }
}

impl Rank {
    pub(super) fn of(pattern: &Pattern) -> Self {
        match pattern.shape() {
            Shape::Address(_) | Shape::Exact(_) => Self::exact(),
            Shape::Subdomains(base) | Shape::Tree(base) => Self::below(base.as_str().len()),
            Shape::Glob(glob) => Self(2, Reverse(glob.literal_len())),
            Shape::Any => Self(3, Reverse(0)),
        }
    }

    /// A rule that names one host.
    pub(super) fn exact() -> Self {
        Self(0, Reverse(0))
    }

    /// Whether it is that of a rule that names one host.
    pub(super) fn is_exact(self) -> bool {
        self.0 == 0
    }

    /// Whether it is that of `*`.
    pub(super) fn is_any(self) -> bool {
        self.0 == 3
    }

    /// A rule about everything below a base: the longer, the more specific.
    pub(super) fn below(base: usize) -> Self {
        Self(1, Reverse(base))
    }
}

/// `pattern, file:line`, as in refusals.
impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}:{}", self.pattern, self.source.name, self.line)
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
