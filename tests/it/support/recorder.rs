//! An origin that notes every byte that reached it, and answers as it is told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::eventually;

/// An origin on loopback. It answers `ok`, unless it was told something else.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

/// A request as it came, complete or not.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
    /// Up to the empty line.
    pub(crate) head: String,
    /// Without chunk framing.
    pub(crate) body: Vec<u8>,
    /// Whether all of it came.
    pub(crate) is_whole: bool,
}

/// What to answer, once.
#[derive(Debug)]
struct Script {
    bytes: Vec<u8>,
    /// Close the connection after it.
    close: bool,
    /// Answer as soon as the head is there.
    early: bool,
}

#[derive(Debug, Default)]
struct Shared {
    requests: Vec<Recorded>,
    raw: BTreeMap<usize, Vec<u8>>,
    ended: BTreeSet<usize>,
    connections: usize,
    scripts: VecDeque<Script>,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let recorder = Self { address, shared: Arc::default() };
        let serving = recorder.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut shared = serving.shared.lock().unwrap();
                    shared.connections += 1;
                    shared.connections - 1
                };
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream, number).await });
            }
        });
        recorder
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers the next request with these bytes.
    pub(crate) fn answer_next(&self, bytes: &[u8], close: bool) {
        let script = Script { bytes: bytes.to_vec(), close, early: false };
        self.shared.lock().unwrap().scripts.push_back(script);
    }

    /// Answers the next request with these bytes, before its body.
    pub(crate) fn answer_early(&self, bytes: &[u8]) {
        let script = Script { bytes: bytes.to_vec(), close: false, early: true };
        self.shared.lock().unwrap().scripts.push_back(script);
    }

    /// What came since the last call.
    pub(crate) fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.shared.lock().unwrap().requests)
    }

    /// Every byte that came on a connection, once it has ended.
    pub(crate) async fn all_of(&self, connection: usize) -> Vec<u8> {
        eventually("the end of a connection", || {
            let shared = self.shared.lock().unwrap();
            let bytes = shared.raw.get(&connection).cloned();
            shared.ended.contains(&connection).then(|| bytes.unwrap_or_default())
        })
        .await
    }

    async fn serve(&self, mut stream: TcpStream, connection: usize) {
        let mut held = Vec::new();
        while let Some(close) = self.serve_one(&mut stream, connection, &mut held).await {
            if close {
                return;
            }
        }
    }

    /// Serves one request; none at the end of the connection.
    async fn serve_one(
        &self,
        stream: &mut TcpStream,
        connection: usize,
        held: &mut Vec<u8>,
    ) -> Option<bool> {
        let end = loop {
            if let Some(end) = position(held, b"\r\n\r\n") {
                break end + 4;
            }
            if !self.fill(stream, connection, held).await {
                if !held.is_empty() {
                    self.record(connection, held, Vec::new(), false);
                }
                return None;
            }
        };
        let head: Vec<u8> = held.drain(..end).collect();
        let script = self.shared.lock().unwrap().scripts.pop_front();
        if let Some(script) = script.as_ref().filter(|script| script.early) {
            self.record(connection, &head, Vec::new(), true);
            stream.write_all(&script.bytes).await.ok()?;
            while self.fill(stream, connection, held).await {}
            return None;
        }
        let (body, is_whole) = self.body(stream, connection, held, &head).await;
        self.record(connection, &head, body, is_whole);
        if !is_whole {
            return None;
        }
        let (bytes, close) = match script {
            Some(script) => (script.bytes, script.close),
            None => (usual_answer(&head), false),
        };
        stream.write_all(&bytes).await.ok()?;
        Some(close)
    }

    async fn body(
        &self,
        stream: &mut TcpStream,
        connection: usize,
        held: &mut Vec<u8>,
        head: &[u8],
    ) -> (Vec<u8>, bool) {
        let head = String::from_utf8_lossy(head).to_lowercase();
        if !head.contains("\r\ntransfer-encoding: chunked\r\n") {
            let length = head
                .split("\r\ncontent-length: ")
                .nth(1)
                .map_or(0, |rest| rest.split('\r').next().unwrap().parse().unwrap_or(usize::MAX));
            while held.len() < length {
                if !self.fill(stream, connection, held).await {
                    return (std::mem::take(held), false);
                }
            }
            return (held.drain(..length).collect(), true);
        }
        let mut body = Vec::new();
        loop {
            while position(held, b"\r\n").is_none() {
                if !self.fill(stream, connection, held).await {
                    return (body, false);
                }
            }
            let line: Vec<u8> = held.drain(..position(held, b"\r\n").unwrap() + 2).collect();
            let size = std::str::from_utf8(&line).unwrap().trim();
            // Nothing but digits: extensions are not sent on.
            let size = usize::from_str_radix(size, 16).expect("a bare chunk size");
            while held.len() < size + 2 {
                if !self.fill(stream, connection, held).await {
                    return (body, false);
                }
            }
            body.extend(held.drain(..size));
            assert_eq!(held.drain(..2).collect::<Vec<_>>(), b"\r\n", "no trailers are sent on");
            if size == 0 {
                return (body, true);
            }
        }
    }

    async fn fill(&self, stream: &mut TcpStream, connection: usize, held: &mut Vec<u8>) -> bool {
        let before = held.len();
        let read = stream.read_buf(held).await.unwrap_or(0);
        let mut shared = self.shared.lock().unwrap();
        shared.raw.entry(connection).or_default().extend(&held[before..before + read]);
        if read == 0 {
            shared.ended.insert(connection);
        }
        read > 0
    }

    fn record(&self, connection: usize, head: &[u8], body: Vec<u8>, is_whole: bool) {
        let head = String::from_utf8_lossy(head).into_owned();
        let recorded = Recorded { connection, head, body, is_whole };
        self.shared.lock().unwrap().requests.push(recorded);
    }
}

impl Recorded {
    pub(crate) fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// Names and values, in order.
    pub(crate) fn fields(&self) -> Vec<(&str, &str)> {
        self.head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields().into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

fn usual_answer(head: &[u8]) -> Vec<u8> {
    let is_head = head.starts_with(b"HEAD ");
    let body = if position(head, b" /sentinel ").is_some() { "sentinel" } else { "ok" };
    let shown = if is_head { "" } else { body };
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{shown}", body.len()).into()
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
