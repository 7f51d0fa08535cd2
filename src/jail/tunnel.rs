//! A tunnel through a proxy, as its client: `exeat connect` and `exeat why`.
//!
//! Blocking, one at a time. It speaks to any HTTP proxy; what it reads is bounded in time and size.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

use super::{dial::dial, fault::visible};
use crate::net::Authority;

/// A connection to a host, through a proxy.
#[derive(Debug)]
pub struct Tunnel {
    /// What is written to it, the host gets. It has no deadlines.
    pub stream: TcpStream,
    /// What the host said first, read with the proxy's answer.
    pub early: Vec<u8>,
}

/// What a proxy said instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub phrase: String,
    /// What the body says, where it is exeat's.
    pub message: Option<String>,
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The proxy did not answer.
    #[error("the proxy at {proxy} does not answer: {error}")]
    Proxy {
        /// Where it should be.
        proxy: Authority,
        /// What went wrong.
        error: io::Error,
    },
    /// It answered, and said no.
    #[error("{0}")]
    Refused(Answer),
}

/// For each address of the proxy, and for asking it.
const CONNECT: Duration = Duration::from_secs(10);

/// For each piece of its answer: it looks the name up and dials before it says anything.
const ANSWER: Duration = Duration::from_secs(60);

const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 64 << 10;

impl Tunnel {
    /// Asks a proxy for a tunnel.
    ///
    /// # Errors
    ///
    /// The proxy cannot be reached, or refuses.
    pub fn open(proxy: &Authority, target: &Authority) -> Result<Self, TunnelError> {
        let failed = |error| TunnelError::Proxy { proxy: proxy.clone(), error };
        let mut stream = dial(proxy, CONNECT).map_err(failed)?;
        let (answer, early) = ask(&mut stream, target).map_err(failed)?;
        match answer.status {
            200..300 => Ok(Self { stream, early }),
            _ => Err(TunnelError::Refused(answer)),
        }
    }
}

/// The answer, and what came after its head when it is a yes.
fn ask(stream: &mut TcpStream, target: &Authority) -> io::Result<(Answer, Vec<u8>)> {
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(CONNECT))?;
    write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")?;
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > MAX_HEAD || !read_more(stream, &mut bytes)? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP"));
        }
    };
    let mut rest = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes);
    let mut answer = status_line(&head)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP"))?;
    if (200..300).contains(&answer.status) {
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        return Ok((answer, rest));
    }
    let length = content_length(&head).unwrap_or(0).min(MAX_BODY);
    while rest.len() < length && read_more(stream, &mut rest)? {}
    let body: Option<Value> = serde_json::from_slice(&rest).ok();
    answer.message = body.and_then(|body| Some(visible(body.get("message")?.as_str()?)));
    Ok((answer, Vec::new()))
}

/// One read, appended; false at the end of the stream.
fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer)?;
    bytes.extend(buffer.iter().take(read));
    Ok(read > 0)
}

fn status_line(head: &str) -> Option<Answer> {
    let line = head.lines().next()?.strip_prefix("HTTP/1.")?;
    let mut words = line.splitn(3, ' ').skip(1);
    let status = words.next()?.parse().ok()?;
    let phrase = visible(words.next().unwrap_or_default());
    Some(Answer { status, phrase, message: None })
}

fn content_length(head: &str) -> Option<usize> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    head.lines().find_map(field)
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.phrase)?;
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}
