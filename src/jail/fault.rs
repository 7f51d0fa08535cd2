//! Why there is no jail: what could not be done, whose doing that is, and what would make it possible.
//!
//! Invariant: a fault is one line. Names of files come into it, and others choose them.

use std::fmt;
#[cfg(target_os = "linux")]
use std::io;

/// A part of the jail that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Fault {
    text: String,
    cause: Cause,
}

/// Whose doing it is that there is no jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The system has none to give, at least not to this user. No program changes that.
    System,
    /// There could be one, but for something that a program, or another user, can put in the way:
    /// no reason to do without.
    Obstacle,
}

impl Fault {
    /// Something is in the way. `cure` ends the sentence; it may be empty.
    pub(super) fn new(what: &str, error: impl fmt::Display, cure: &str) -> Self {
        let separator = if cure.is_empty() { "" } else { ": " };
        let text = visible(&format!("{what}: {error}{separator}{cure}"));
        Self { text, cause: Cause::Obstacle }
    }

    /// The same, with another cause.
    #[must_use]
    pub(super) fn because(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }

    /// As told by the process inside.
    #[cfg(target_os = "linux")]
    pub(super) fn told(text: &[u8], cause: Cause) -> Self {
        Self { text: visible(&String::from_utf8_lossy(text)), cause }
    }

    /// Whose doing it is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }
}

#[cfg(target_os = "linux")]
impl Cause {
    /// Of a system call that asks for namespaces, or for what they give: no table that is full, and
    /// nothing that is missing or in use, is the system's refusal.
    pub(super) fn of(error: &io::Error) -> Self {
        let is_refusal = matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::Unsupported
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::ReadOnlyFilesystem
        );
        if is_refusal { Self::System } else { Self::Obstacle }
    }
}

/// As a terminal may show it: what would control it is escaped.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_and_controls_nothing() {
        let fault = Fault::new("cannot hide /tmp/\u{1b}[2Jü\n", "it's \"in\" use", "");
        assert_eq!(fault.to_string(), r#"cannot hide /tmp/\u{1b}[2Jü\n: it's "in" use"#);
        assert_eq!(fault.cause(), Cause::Obstacle);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_a_refusal_is_the_systems_doing() {
        let cause = |number| Cause::of(&io::Error::from_raw_os_error(number));
        // EPERM, EACCES, ENOSYS, EINVAL, EROFS.
        for refused in [1, 13, 38, 22, 30] {
            assert_eq!(cause(refused), Cause::System, "{refused}");
        }
        // EAGAIN, ENOMEM, ENOSPC, ENOENT, EBUSY, EMFILE: who fills tables can bring them about.
        for full in [11, 12, 28, 2, 16, 24] {
            assert_eq!(cause(full), Cause::Obstacle, "{full}");
        }
    }
}
