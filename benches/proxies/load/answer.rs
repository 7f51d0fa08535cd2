//! Answers of proxies and origins, however their length is said.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// An answer: its status, and whether the connection goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) keeps: bool,
}

/// Sends a request and reads the whole answer to it.
///
/// # Errors
/// `ConnectionAborted` if the connection ended before the first byte of an answer.
pub(crate) async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> io::Result<Answer> {
    if stream.write_all(request).await.is_err() {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let end = read_head(stream, buffer).await?;
    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then_some(value.trim())
        })
    };
    let status = status(&buffer[..end]);
    let length: Option<usize> = field("content-length").and_then(|text| text.parse().ok());
    let chunked = field("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    let connection = field("connection").or_else(|| field("proxy-connection")).unwrap_or_default();
    let keeps = match head.starts_with("http/1.0") {
        true => connection == "keep-alive",
        false => connection != "close",
    };
    let delimited = chunked || length.is_some();
    loop {
        // Of the chunked bodies that are asked for, none looks like its end before its end.
        let complete = match length {
            _ if chunked => buffer.ends_with(b"0\r\n\r\n"),
            Some(length) => buffer.len() >= end + length,
            None => false,
        };
        if complete {
            break;
        }
        if stream.read_buf(buffer).await? == 0 {
            if delimited {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            break;
        }
    }
    Ok(Answer { status, keeps: keeps && delimited })
}

/// Sends the head of a CONNECT and reads that of the answer: its status.
pub(crate) async fn connect(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> io::Result<u16> {
    stream.write_all(request).await?;
    let end = read_head(stream, buffer).await?;
    Ok(status(&buffer[..end]))
}

/// Clears the buffer, reads until a head is complete, and says where it ends.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.clear();
    loop {
        match stream.read_buf(buffer).await {
            Ok(0) if !buffer.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
        if let Some(place) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(place + 4);
        }
        if buffer.len() > 64 * 1024 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// 0 if there is none.
pub(crate) fn status(head: &[u8]) -> u16 {
    let digits = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
}
