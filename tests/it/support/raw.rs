//! A client that says exactly what a test wants, byte for byte.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::PATIENCE;

/// An HTTP/1.1 answer, not interpreted beyond its framing.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) phrase: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends bytes on a new connection and reads one answer.
pub(crate) async fn exchange(to: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = connect(to).await;
    stream.write_all(request).await.unwrap();
    read_answer(&mut stream).await
}

/// Opens a tunnel through a proxy.
pub(crate) async fn connect_tunnel(proxy: SocketAddr, authority: &str) -> TcpStream {
    let mut stream = connect(proxy).await;
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    stream
}

#[expect(clippy::disallowed_methods, reason = "a client dials its proxy without a permit")]
pub(crate) async fn connect(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).await.unwrap()
}

/// Reads one answer: its head, and as much body as the head says.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> Answer {
    let head = read_head(stream).await;
    let mut lines = head.lines();
    let mut status_line = lines.next().unwrap().splitn(3, ' ');
    let status = status_line.nth(1).unwrap().parse().unwrap();
    let phrase = status_line.next().unwrap_or("").to_owned();
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, phrase, fields, body: Vec::new() };
    if let Some(length) = answer.field("content-length") {
        answer.body = vec![0; length.parse().unwrap()];
        timeout(PATIENCE, stream.read_exact(&mut answer.body)).await.unwrap().unwrap();
    } else if answer.field("transfer-encoding") == Some("chunked") {
        answer.body = read_chunked(stream).await;
    } else if answer.field("connection") == Some("close") {
        timeout(PATIENCE, stream.read_to_end(&mut answer.body)).await.unwrap().unwrap();
    }
    answer
}

/// A GET in absolute-form, with `Host` and nothing else.
pub(crate) fn get(host: &str, port: u16) -> Vec<u8> {
    format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").into()
}

/// A CONNECT to port 443.
pub(crate) fn connect_to(host: &str) -> Vec<u8> {
    format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n").into()
}

/// Reads the head of a request or an answer, empty line and all.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    read_head_of(stream).await
}

/// The same from any stream.
pub(crate) async fn read_head_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.expect("a head in time");
        head.push(byte.unwrap_or_else(|error| {
            panic!("no head but {error} after {:?}", String::from_utf8_lossy(&head))
        }));
    }
    String::from_utf8(head).unwrap()
}

async fn read_chunked(stream: &mut TcpStream) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        let size = std::str::from_utf8(&line).unwrap().trim();
        let size = usize::from_str_radix(size, 16).unwrap();
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await.unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
