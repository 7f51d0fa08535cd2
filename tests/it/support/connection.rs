//! A connection to a proxy that is read without assumptions: an answer may break off, or not come.

use std::{net::SocketAddr, time::Duration};

use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

/// How long something is waited for that may rightly never come.
const HANG: Duration = Duration::from_secs(20);

/// A final answer, as far as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) is_whole: bool,
}

/// A connection to the proxy that is read without assumptions.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    held: Vec<u8>,
    /// Neither an answer came nor the end.
    pub(crate) hung: bool,
}

impl Connection {
    pub(crate) async fn open(to: SocketAddr) -> Self {
        let stream = super::raw_connect(to).await;
        stream.set_nodelay(true).unwrap();
        Self { stream, held: Vec::new(), hung: false }
    }

    /// The next final answer; none at the end of the connection.
    pub(crate) async fn answer(&mut self) -> Option<Reply> {
        loop {
            let answer = self.any_answer().await?;
            if answer.status >= 200 {
                return Some(answer);
            }
        }
    }

    /// Everything up to the end of the connection, whatever it is.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.held)
    }

    async fn any_answer(&mut self) -> Option<Reply> {
        let end = loop {
            if let Some(end) = self.held.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.fill().await {
                assert!(
                    self.held.is_empty() || self.hung,
                    "half an answer: {:?}",
                    String::from_utf8_lossy(&self.held)
                );
                return None;
            }
        };
        let head: Vec<u8> = self.held.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let fields = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Reply { status, fields, body: Vec::new(), is_whole: true };
        if status < 200 || status == 204 || status == 304 {
            return Some(answer);
        }
        if let Some(length) = answer.field("content-length").map(|l| l.parse::<usize>().unwrap()) {
            while self.held.len() < length && self.fill().await {}
            answer.is_whole = self.held.len() >= length;
            answer.body = self.held.drain(..length.min(self.held.len())).collect();
        } else if answer.field("transfer-encoding").is_some() {
            answer.is_whole = self.chunks(&mut answer.body).await;
        } else if answer.field("connection") == Some("close") {
            answer.body = self.rest().await;
        }
        Some(answer)
    }

    /// Reads a chunked body; false if it breaks off.
    async fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let line = loop {
                if let Some(end) = self.held.windows(2).position(|window| window == b"\r\n") {
                    break self.held.drain(..end + 2).collect::<Vec<_>>();
                }
                if !self.fill().await {
                    return false;
                }
            };
            let size = std::str::from_utf8(&line).unwrap().trim();
            let size = usize::from_str_radix(size, 16).unwrap();
            while self.held.len() < size + 2 {
                if !self.fill().await {
                    return false;
                }
            }
            body.extend(self.held.drain(..size));
            self.held.drain(..2);
            if size == 0 {
                return true;
            }
        }
    }

    async fn fill(&mut self) -> bool {
        let read = timeout(HANG, self.stream.read_buf(&mut self.held)).await;
        self.hung |= read.is_err();
        matches!(read, Ok(Ok(1..)))
    }
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}
