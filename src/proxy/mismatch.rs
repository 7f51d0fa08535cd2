//! Why a tunnel is closed for how it began, and what its client is told.

use super::plain_head::PlainError;
use crate::tls::{Alert, HelloError};

/// Why a tunnel is closed for how it began.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mismatch {
    /// Another name may be hidden, and that is refused.
    #[error("the ClientHello uses Encrypted Client Hello")]
    Ech,
    /// It begins as TLS, and has no reading.
    #[error("the ClientHello {0}")]
    Hello(#[from] HelloError),
    /// It begins as HTTP, and has no reading.
    #[error("the HTTP head {0}")]
    HttpHead(#[from] PlainError),
    /// An HTTP head names another host, or none.
    #[error("the HTTP head is for another host")]
    HttpHost,
    /// A hello that names no host, for one that has a name.
    #[error("the ClientHello has no server name")]
    NoName,
    /// Something else than TLS on port 443.
    #[error("the first bytes are no ClientHello")]
    NotTls,
    /// The name in a hello is not the one asked for, nor allowed otherwise.
    #[error("the server name is that of another host")]
    OtherName,
    /// The second hello names another host than the first.
    #[error("the second ClientHello has another server name than the first")]
    SecondName,
    /// The client began and did not go on.
    #[error("the first bytes took too long")]
    Slow,
}

/// What an HTTP client is told. Nothing in it comes from the client.
const HTTP_REFUSAL: &[u8] =
    b"HTTP/1.1 403 exeat: the request is not for the host of this tunnel\r\n\
    Connection: close\r\nContent-Length: 0\r\nx-proxy-error: blocked-by-policy\r\n\
    Proxy-Status: exeat; error=http_request_denied; details=\"sni_mismatch\"\r\n\r\n";

impl Mismatch {
    /// The word for it in the audit.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Ech => "ech",
            Self::Hello(_) => "hello_malformed",
            Self::HttpHead(_) => "http_head_malformed",
            Self::HttpHost => "http_host",
            Self::NoName => "no_server_name",
            Self::NotTls => "not_tls",
            Self::OtherName => "server_name",
            Self::SecondName => "second_server_name",
            Self::Slow => "slow",
        }
    }

    /// Whether the client would understand the answer although the origin has spoken already.
    pub(super) fn may_interrupt(&self) -> bool {
        // The origin's part of the handshake has ended with HelloRetryRequest.
        *self == Self::SecondName
    }

    /// What the client is told, in the protocol it speaks. A name is what is wrong, so the alert is
    /// the one for names where there is one: libraries show it.
    pub(super) fn answer(&self) -> Vec<u8> {
        let alert = match self {
            Self::OtherName | Self::SecondName => Alert::UnrecognizedName,
            Self::Hello(HelloError::Name(_) | HelloError::ServerName | HelloError::TrailingDot) => {
                Alert::UnrecognizedName
            }
            Self::NoName => Alert::MissingExtension,
            Self::Ech => Alert::AccessDenied,
            Self::Hello(_) => Alert::DecodeError,
            Self::HttpHead(_) | Self::HttpHost => return HTTP_REFUSAL.to_vec(),
            Self::NotTls | Self::Slow => return Vec::new(),
        };
        alert.record().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_audit_differ() {
        let words: std::collections::BTreeSet<_> = [
            Mismatch::Ech,
            Mismatch::Hello(HelloError::Length),
            Mismatch::HttpHead(PlainError::Unfinished),
            Mismatch::HttpHost,
            Mismatch::NoName,
            Mismatch::NotTls,
            Mismatch::OtherName,
            Mismatch::SecondName,
            Mismatch::Slow,
        ]
        .iter()
        .map(Mismatch::word)
        .collect();
        assert_eq!(words.len(), 9);
    }
}
