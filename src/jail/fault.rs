//! Why there is no jail: what could not be done, and what would make it possible.

use std::fmt;

/// A part of the jail that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(String);

impl Fault {
    /// `cure` ends the sentence; it may be empty.
    pub(super) fn new(what: &str, error: impl fmt::Display, cure: &str) -> Self {
        let separator = if cure.is_empty() { "" } else { ": " };
        Self(format!("{what}: {error}{separator}{cure}"))
    }

    /// As told by the process inside.
    #[cfg(target_os = "linux")]
    pub(super) fn told(text: &[u8]) -> Self {
        Self(String::from_utf8_lossy(text).into_owned())
    }
}
