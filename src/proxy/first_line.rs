//! Whether the first line of a client may be the request line of HTTP/1, for any server.
//!
//! Servers forgive much, and each of them something else, so the question is not what the grammar
//! says but what at least one of them needs. Python's `http.server` takes any bytes for a method and
//! what Unicode calls white space between the words; Node.js takes `GET /` without a version, and
//! with that of RTSP or of Icecast; others take any word for a version, and a method in any case.
//!
//! The line ends at the first line feed. Its words are the runs of visible ASCII; what stands
//! before, between and behind them may be anything. The first word is the method, and the line is
//! a request line if after it
//!
//! 1. a word begins with `HTTP/`, in any case. If a control character stands before it that nobody
//!    takes for white space (NUL, a length in a binary protocol), only after a known method; or
//! 2. the method is a known one, in any case, and the second word may be its target: it begins with
//!    `/` or `*`, or holds the `:/` of a URL; after CONNECT it begins with a letter, a digit or `[`;
//! 3. the method is `GET`, as written, and there is a second word.
//!
//! A line for which none of this holds is a request to no server known. `EHLO a.test`, `SSH-2.0-x`,
//! `*1` (Redis), `a1 LOGIN` (IMAP), `USER x` (FTP), `NICK x` (IRC), `get x` (memcached) and binary
//! protocols are such lines; RTSP is not, and neither is `get /x`.
//!
//! The header of the PROXY protocol is told too: behind it anything may begin anew.

/// A line in the making.
#[derive(Debug, Default)]
pub(super) struct FirstLine {
    /// The first word, as far as methods are long.
    method: Vec<u8>,
    /// Which word it is in, or was in last, counted from 1.
    word: usize,
    in_word: bool,
    /// The beginning of a later word, in lower case.
    beginning: Vec<u8>,
    /// The last byte.
    last: u8,
    /// Nobody takes what stands before the word for white space.
    glued: bool,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It has not ended, and is nothing yet.
    Open,
    /// It has ended, and is no request line.
    Other,
    /// A header of the PROXY protocol, version 1.
    Proxied,
    /// It may be a request line, ended or not.
    Request,
}

impl FirstLine {
    /// Goes on to the end of the line or to what decides about it.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Line {
        for byte in bytes {
            match *byte {
                b'\n' if self.is_new() => {}
                b'\n' => return Line::Other,
                byte if byte.is_ascii_graphic() => {
                    if self.grow(byte) {
                        return Line::Request;
                    }
                }
                _ if self.word == 1 && self.in_word && self.method == b"PROXY" => {
                    return Line::Proxied;
                }
                separator => {
                    self.in_word = false;
                    self.glued = !matches!(separator, b'\t'..=b'\r' | 0x1c..=b' ' | 0x80..);
                }
            }
            self.last = *byte;
        }
        Line::Open
    }

    /// No word has begun.
    pub(super) fn is_new(&self) -> bool {
        self.word == 0
    }

    /// Whether the first word is a known method as it is written, or may become one.
    pub(super) fn may_be_known(&self) -> bool {
        let word = self.method.as_slice();
        METHODS.iter().any(|method| match self.word == 1 && self.in_word {
            true => method.as_bytes().starts_with(word),
            false => method.as_bytes() == word,
        })
    }

    /// Whether it is that word alone.
    pub(super) fn is(&self, word: &[u8]) -> bool {
        self.word == 1 && self.method == word
    }

    /// Takes a byte of a word; whether it makes the line a request line.
    fn grow(&mut self, byte: u8) -> bool {
        if !self.in_word {
            self.in_word = true;
            self.word = self.word.saturating_add(1);
            self.beginning.clear();
        }
        if self.word == 1 {
            if self.method.len() <= LONGEST {
                self.method.push(byte);
            }
            return false;
        }
        let is_first = self.beginning.is_empty();
        let is_short = self.beginning.len() < HTTP.len();
        if is_short {
            self.beginning.push(byte.to_ascii_lowercase());
        }
        let speaks_http = is_short && self.beginning == HTTP;
        (speaks_http && (!self.glued || self.is_known()))
            || (self.word == 2 && self.may_be_target(byte, is_first) && self.is_known())
    }

    fn may_be_target(&self, byte: u8, is_first: bool) -> bool {
        match (byte, is_first) {
            (b'/' | b'*', true) => true,
            (byte, true) if self.method.eq_ignore_ascii_case(b"CONNECT") => {
                byte.is_ascii_alphanumeric() || byte == b'['
            }
            (_, true) => self.method == b"GET",
            (byte, false) => byte == b'/' && self.last == b':',
        }
    }

    fn is_known(&self) -> bool {
        METHODS.iter().any(|method| method.as_bytes().eq_ignore_ascii_case(&self.method))
    }
}

const HTTP: &[u8] = b"http/";

/// No known method is longer.
const LONGEST: usize = 17;

/// Methods of the IANA registry (RFC 9110 §16.1.1), and what else Node.js knows: those of
/// `UPnP`, of caches, of Icecast and of RTSP.
const METHODS: &[&str] = &[
    "ACL",
    "ANNOUNCE",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "DESCRIBE",
    "FLUSH",
    "GET",
    "GET_PARAMETER",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "NOTIFY",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "PAUSE",
    "PLAY",
    "POST",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "QUERY",
    "REBIND",
    "RECORD",
    "REDIRECT",
    "REPORT",
    "SEARCH",
    "SETUP",
    "SET_PARAMETER",
    "SOURCE",
    "SUBSCRIBE",
    "TEARDOWN",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Line {
        let at_once = FirstLine::default().feed(bytes);
        let mut in_pieces = FirstLine::default();
        let pieces = bytes.iter().map(|byte| in_pieces.feed(&[*byte]));
        let cut = pieces.into_iter().find(|line| *line != Line::Open).unwrap_or(Line::Open);
        assert_eq!(at_once, cut, "{}", bytes.escape_ascii());
        at_once
    }

    #[test]
    fn what_some_server_takes_for_a_request() {
        for line in [
            &b"GET / HTTP/1.1"[..],
            b"get / http/1.1",
            b"GET /",
            b"GET key",
            b"Post /",
            b"PURGE / x",
            b"GET / RTSP/1.0",
            b"DESCRIBE rtsp://a.test/ RTSP/1.0",
            b"SOURCE /mount ICE/1.0",
            b"GET http://a.test/",
            b"get foo+bar://a.test/",
            b"CONNECT a.test:443",
            b"CONNECT [::1]:443",
            b"PRI * HTTP/2.0",
            b"A x y HTTP/9",
            b"A HTTP/1.1",
            b"\x01\x02 / HTTP/1.1",
            b"a\x01b / HTTP/1.1",
            b"(x) / HTTP/1.1",
            b"\x0bGET\x0c/\x1fHTTP/1.1",
            b"\x1cG\xffT\xa0/\x85HTTP/1.1",
            b"\xef\xbb\xbfA\xe2\x80\x83/\xe3\x80\x80HTTP/1.1",
            b"\0\0GET\0/",
            b"GET\x01/\0HTTP/1.1",
            b"x\rGET / HTTP/1.1",
            b"a-word-that-is-longer-than-any-known-method-and-than-32-bytes / HTTP/1.1",
            b"\n\nA / HTTP/1.1",
        ] {
            assert_eq!(read(line), Line::Request, "{}", line.escape_ascii());
        }
        assert_eq!(read(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), Line::Proxied);
    }

    #[test]
    fn what_no_server_takes_for_one() {
        for line in [
            &b"SSH-2.0-OpenSSH_9.6 Debian"[..],
            b"EHLO httpbin.test",
            b"EHLO http",
            b"hello",
            b"HTTP/1.1 200 OK",
            b"\xff HTTP/1.1",
            b"get x",
            b"set GET 0 0 4",
            b"a1 LOGIN x y",
            b"USER x 0 * :GET",
            b"NICK x",
            b"HEAD 123",
            b"POST",
            b"PROXYING x",
            b"CONNECT {\"verbose\":false}",
            b"OPTIONS sip:a.test SIP/2.0",
            b"0032git-upload-pack /a\0host=b\0",
            b"AMQP\0\0\x09\x01",
            b"*1\r",
            b"open http://a.test/",
            b"A /http/ xHTTP/1.1",
            b"\x12\x34\0\x4f\x02\x02\0\x08HTTP/1.1\0\0\x01/",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>",
        ] {
            assert_eq!(read(line), Line::Open, "{}", line.escape_ascii());
            let ended = [line, b"\n"].concat();
            assert_eq!(read(&ended), Line::Other, "{}", line.escape_ascii());
        }
        assert!(METHODS.iter().all(|method| method.len() <= LONGEST));
    }
}
