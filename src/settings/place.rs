//! Where clients connect: an address and a port, or the path of a unix socket.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `ADDRESS:PORT`.
    Tcp(SocketAddr),
    /// `unix:/path`, absolute.
    Unix(PathBuf),
}

/// A text that names no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write ADDRESS:PORT, such as 127.0.0.1:3128, or unix:/absolute/path")]
pub struct PlaceError;

const UNIX: &str = "unix:";

impl Place {
    /// The address, if it is not a path.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text.strip_prefix(UNIX) {
            Some(path) if path.starts_with('/') && !path.contains('\0') => {
                Ok(Self::Unix(path.into()))
            }
            Some(_) => Err(PlaceError),
            None => text.parse().map(Self::Tcp).map_err(|_| PlaceError),
        }
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for text in ["127.0.0.1:3128", "[::1]:0", "unix:/run/exeat/http.sock"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["", "3128", "localhost:1", "unix:", "unix:x", "unix://h/x\0", "/run/x.sock"] {
            assert_eq!(text.parse::<Place>(), Err(PlaceError), "{text}");
        }
    }
}
