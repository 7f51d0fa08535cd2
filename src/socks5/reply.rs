//! The answer to a request (RFC 1928 §6).

use super::VERSION;

/// What came of a request, in the words of SOCKS5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The tunnel is open.
    Succeeded,
    /// The proxy cannot, or the request makes no sense.
    Failure,
    /// "Connection not allowed by ruleset".
    NotAllowed,
    /// No route to the host, or no address of it.
    HostUnreachable,
    /// The host refuses the connection.
    Refused,
    /// "TTL expired": nothing answered in time.
    Expired,
    /// A command other than CONNECT.
    CommandNotSupported,
    /// An address that is neither IPv4, IPv6 nor a name.
    AddressTypeNotSupported,
}

impl Reply {
    /// The whole message. The address it is bound to is always `0.0.0.0:0`: where the proxy dials
    /// from is nobody's business, and CONNECT needs none.
    #[must_use]
    pub fn bytes(self) -> [u8; 10] {
        const IPV4: u8 = 1;
        let code = match self {
            Self::Succeeded => 0,
            Self::Failure => 1,
            Self::NotAllowed => 2,
            Self::HostUnreachable => 4,
            Self::Refused => 5,
            Self::Expired => 6,
            Self::CommandNotSupported => 7,
            Self::AddressTypeNotSupported => 8,
        };
        [VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]
    }
}
