//! One port for everything but TLS proper: HTTP/1.1, an answer to a ClientHello, a source and a sink.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What a client of the source and of the sink says first: neither TLS nor HTTP.
pub(crate) const SOURCE: &[u8] = b"\0source\n";
pub(crate) const SINK: &[u8] = b"\0sink\n";

/// Bytes that answer a ClientHello, in one record of the handshake.
pub(crate) const FLIGHT: usize = 1024;

/// Bytes of a body.
const BODY: usize = 1024;

/// Bytes written or read at a time.
pub(crate) const PIECE: usize = 256 * 1024;

pub(crate) async fn serve(listener: TcpListener) {
    loop {
        // Out of descriptors: those who wait are served as others leave.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        stream.set_nodelay(true).ok();
        tokio::spawn(async move { connection(stream).await.ok() });
    }
}

/// Looks at the first byte to know what is spoken.
async fn connection(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(2048);
    if stream.read_buf(&mut bytes).await? == 0 {
        return Ok(());
    }
    match bytes.first() {
        Some(0x16) => handshake(stream, bytes).await,
        Some(0) => {
            while bytes.last() != Some(&b'\n') {
                if stream.read_buf(&mut bytes).await? == 0 {
                    return Ok(());
                }
            }
            if bytes == SOURCE { source(stream).await } else { sink(stream).await }
        }
        _ => http(stream, bytes).await,
    }
}

/// A flight for every ClientHello: nothing that a TLS client would take, but bytes that look alike.
async fn handshake(mut stream: TcpStream, mut bytes: Vec<u8>) -> io::Result<()> {
    let mut flight = vec![0; FLIGHT];
    let [kind, major, minor, high, low] = [0x16, 3, 3, 3, 0xfb];
    flight.splice(..5, [kind, major, minor, high, low]);
    loop {
        while let [_, _, _, high, low, rest @ ..] = bytes.as_slice() {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if rest.len() < length {
                break;
            }
            bytes.drain(..5 + length);
            stream.write_all(&flight).await?;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

async fn source(mut stream: TcpStream) -> io::Result<()> {
    let piece = vec![b'x'; PIECE];
    loop {
        stream.write_all(&piece).await?;
    }
}

async fn sink(mut stream: TcpStream) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    while stream.read(&mut piece).await? > 0 {}
    Ok(())
}

/// Answers each request with the same body, after its own has come; bodies say their length.
async fn http(mut stream: TcpStream, mut bytes: Vec<u8>) -> io::Result<()> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {BODY}\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + BODY, b'x');
    let mut piece = Vec::new();
    loop {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
        let mut missing = body_length(&head);
        if head.to_ascii_lowercase().contains("\r\nexpect:") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        bytes.drain(..end + 4);
        let there = missing.min(bytes.len());
        bytes.drain(..there);
        missing -= there;
        piece.resize(if missing > 0 { PIECE } else { 0 }, 0);
        while missing > 0 {
            let most = missing.min(PIECE);
            let length = stream.read(&mut piece[..most]).await?;
            if length == 0 {
                return Ok(());
            }
            missing -= length;
        }
        stream.write_all(&answer).await?;
    }
}

fn body_length(head: &str) -> usize {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    length.unwrap_or(0)
}
