//! A client's connection: from one of several loopback addresses, and the answers on it.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// An answer: its status, and whether the connection goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) keeps: bool,
}

/// Connections per source address, far below the number of ports.
const PER_ADDRESS: usize = 5_000;

/// Connects; `number` says from which address.
#[expect(clippy::disallowed_methods, reason = "a client dials its proxy without a permit")]
pub(crate) async fn connect(to: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let address = u8::try_from(2 + number / PER_ADDRESS).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, address], 0)))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A request that is forwarded.
pub(crate) fn request(origin: u16) -> Vec<u8> {
    format!("GET http://load.test:{origin}/ HTTP/1.1\r\nHost: load.test:{origin}\r\n\r\n").into()
}

/// One request and its whole answer.
pub(crate) async fn exchange(stream: &mut TcpStream, request: &[u8]) -> io::Result<Answer> {
    stream.write_all(request).await?;
    read_answer(stream).await
}

/// Reads one answer whose length is said. `UnexpectedEof` if there is none, or not all of it.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(bytes.get(..end).unwrap()).to_ascii_lowercase();
        let field = |name: &str| {
            head.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let length: Option<usize> = field("content-length:").and_then(|text| text.parse().ok());
        let (Some(status), Some(length)) = (status, length) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let keeps = field("connection:").as_deref() != Some("close");
        while bytes.len() < end + 4 + length {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        return Ok(Answer { status, keeps });
    }
}

/// Reads to the end of the stream, however it ends.
pub(crate) async fn read_to_end(stream: &mut TcpStream) {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
}
