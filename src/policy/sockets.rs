//! Which unix sockets may be asked for, by path.
//!
//! What is judged is where a path leads, not what it is called: whoever may make a link must not
//! choose the socket with it. Finding that out is not done here, where no file is touched; it is an
//! argument.

use std::fmt;

use super::{Denial, List, Reason};

/// The path of a unix socket: absolute, in UTF-8, without NUL. Displayed as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketPath(String);

/// Why a text is no such path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an absolute path")]
pub struct SocketPathError;

/// Leave to connect to one socket. Only a decision makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPermit(SocketPath);

/// `unix_sockets` and what goes with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sockets {
    /// `dangerously_allow_all_unix_sockets`.
    pub(super) all: bool,
    pub(super) allowed: Vec<SocketPath>,
    pub(super) denied: Vec<SocketPath>,
}

impl SocketPath {
    /// Takes an absolute path.
    ///
    /// # Errors
    ///
    /// It is none, is not UTF-8 or has a NUL.
    pub fn parse(text: &[u8]) -> Result<Self, SocketPathError> {
        let text = str::from_utf8(text).map_err(|_| SocketPathError)?;
        match text.starts_with('/') && !text.contains('\0') {
            true => Ok(Self(text.to_owned())),
            false => Err(SocketPathError),
        }
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SocketPermit {
    /// Where that socket is, without links on the way.
    #[must_use]
    pub fn path(&self) -> &SocketPath {
        &self.0
    }
}

impl Sockets {
    /// Whether any may be asked for.
    pub(super) fn is_open(&self) -> bool {
        self.all || !self.allowed.is_empty()
    }

    /// Deny wins, whatever else is said.
    pub(super) fn decide(
        &self,
        socket: &SocketPath,
        leads_to: impl Fn(&SocketPath, List, &SocketPath) -> bool,
    ) -> Result<SocketPermit, Denial> {
        let names = |path: &SocketPath, list| path == socket || leads_to(path, list, socket);
        if self.denied.iter().any(|path| names(path, List::Deny)) {
            return Err(Denial::built_in(Reason::Denied));
        }
        match self.all || self.allowed.iter().any(|path| names(path, List::Allow)) {
            true => Ok(SocketPermit(socket.clone())),
            false => Err(Denial::built_in(Reason::NotAllowed)),
        }
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SocketPath {
        SocketPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn paths() {
        for text in [&b""[..], b"x", b"./x", b"/x\0", b"\0x", b"/\xff", b"~/x", b"@x"] {
            assert_eq!(SocketPath::parse(text), Err(SocketPathError));
        }
        assert_eq!(path("/run/x.sock").to_string(), "/run/x.sock");
    }

    #[test]
    fn deny_wins_and_links_are_judged_by_where_they_lead() {
        let sockets = |all, allowed: &[&str], denied: &[&str]| Sockets {
            all,
            allowed: allowed.iter().map(|text| path(text)).collect(),
            denied: denied.iter().map(|text| path(text)).collect(),
        };
        // Links of root count for allows, those of anybody for denies.
        let leads_to =
            |listed: &SocketPath, list, socket: &SocketPath| match (listed.as_str(), list) {
                ("/var/run/a", _) | ("/tmp/link", List::Deny) => *socket == path("/run/a"),
                _ => false,
            };
        for (sockets, asked, expected) in [
            (sockets(false, &[], &[]), "/run/a", Err(Reason::NotAllowed)),
            (sockets(false, &["/run/a"], &[]), "/run/a", Ok(())),
            (sockets(false, &["/run/a"], &[]), "/run/ab", Err(Reason::NotAllowed)),
            (sockets(false, &["/run"], &[]), "/run/a", Err(Reason::NotAllowed)),
            (sockets(false, &["/var/run/a"], &[]), "/run/a", Ok(())),
            (sockets(false, &["/tmp/link"], &[]), "/run/a", Err(Reason::NotAllowed)),
            (sockets(true, &[], &[]), "/run/a", Ok(())),
            (sockets(true, &["/run/a"], &["/run/a"]), "/run/a", Err(Reason::Denied)),
            (sockets(true, &[], &["/var/run/a"]), "/run/a", Err(Reason::Denied)),
            (sockets(true, &[], &["/tmp/link"]), "/run/a", Err(Reason::Denied)),
        ] {
            let said = sockets.decide(&path(asked), leads_to);
            let said = said.map(|permit| assert_eq!(permit.path(), &path(asked)));
            assert_eq!(said.map_err(|denial| denial.reason), expected, "{sockets:?} {asked}");
        }
    }
}
