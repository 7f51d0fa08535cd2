//! Whom a client speaks to, from what it says first to somebody it takes for that host.
//!
//! A function of bytes. It says a name and judges nothing: the tunnel to that name is judged by its
//! `opening`, from the same bytes.

use super::plain_head::{Plain, PlainHead};
use crate::{
    http1::HeadLimits,
    net::Host,
    tls::{Beginning, HelloReader, beginning_of},
};

/// What was said so far.
#[derive(Debug)]
pub(super) struct Sniffer {
    stage: Stage,
    /// What has been looked at and is of no interest any more.
    from: usize,
    limits: HeadLimits,
}

/// What the bytes say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sniffed {
    /// Nothing yet.
    More,
    /// All that they will, and in which protocol.
    Said(Speech, Option<Host>),
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    Http,
    Tls,
    /// Anything else, or nothing.
    Other,
}

#[derive(Debug)]
enum Stage {
    Start,
    Hello(HelloReader),
    Plain(PlainHead),
}

impl Sniffer {
    pub(super) fn new(limits: HeadLimits) -> Self {
        Self { stage: Stage::Start, from: 0, limits }
    }

    /// Looks at all bytes that have come. Ends at the bounds of a hello or a head.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Sniffed {
        if let Stage::Start = self.stage {
            self.stage = match beginning_of(bytes) {
                Beginning::Tls => Stage::Hello(HelloReader::default()),
                Beginning::Undecided => return Sniffed::More,
                Beginning::Other | Beginning::Sslv2Hello => Stage::Plain(PlainHead::default()),
            };
        }
        match &mut self.stage {
            Stage::Start => Sniffed::More,
            Stage::Hello(reader) => match reader.read(bytes) {
                Ok(None) => Sniffed::More,
                Ok(Some(whole)) => {
                    Sniffed::Said(Speech::Tls, whole.hello.server_name.map(Host::Name))
                }
                Err(_) => Sniffed::Said(Speech::Tls, None),
            },
            Stage::Plain(head) => loop {
                let rest = bytes.get(self.from..).unwrap_or_default();
                match head.look(rest, false, self.limits) {
                    Ok(Plain::Head(head)) => {
                        return Sniffed::Said(Speech::Http, head.named.field);
                    }
                    Ok(Plain::Release(length)) if self.from < self.limits.bytes => {
                        self.from += length;
                    }
                    Ok(Plain::Hold) => return Sniffed::More,
                    Ok(Plain::Other | Plain::Release(_)) => {
                        return Sniffed::Said(Speech::Other, None);
                    }
                    Err(_) => return Sniffed::Said(Speech::Http, None),
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::opening::tests::hello, *};

    fn sniff(bytes: &[u8], piece: usize) -> Sniffed {
        let mut sniffer = Sniffer::new(HeadLimits { bytes: 4096, line: 2048, fields: 16 });
        let ends = (0..bytes.len()).step_by(piece).chain([bytes.len()]);
        ends.map(|end| sniffer.look(&bytes[..end]))
            .find(|sniffed| *sniffed != Sniffed::More)
            .unwrap_or(Sniffed::More)
    }

    #[test]
    fn names_are_found_however_the_bytes_are_cut() {
        let host = |name: &str| Some(Host::parse(name.as_bytes()).unwrap());
        let (named, nameless) = (hello(Some("OK.test"), b"", 2), hello(None, b"", 1));
        for (bytes, expected) in [
            (&named[..], Sniffed::Said(Speech::Tls, host("ok.test"))),
            (&nameless, Sniffed::Said(Speech::Tls, None)),
            (b"\x15\x03\x01\0\x02\x01\0", Sniffed::Said(Speech::Tls, None)),
            (
                b"\r\nGET / HTTP/1.1\r\nHost: OK.test:81\r\n\r\n",
                Sniffed::Said(Speech::Http, host("ok.test")),
            ),
            (b"GET / HTTP/1.0\r\n\r\n", Sniffed::Said(Speech::Http, None)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Sniffed::Said(Speech::Http, None)),
            (b"GET / HTTP/1.1\r\nHost: ok", Sniffed::More),
            (b"SSH-2.0-x\r\n", Sniffed::Said(Speech::Other, None)),
            (b"", Sniffed::More),
        ] {
            for piece in [1, 3, 4096] {
                assert_eq!(sniff(bytes, piece), expected, "{} {piece}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn nothing_is_read_without_end() {
        for byte in [b' ', b'x', 0] {
            assert_ne!(sniff(&[byte; 20_000], 100), Sniffed::More, "{byte}");
        }
    }
}
