//! Origins, good ones and bad ones, each on a port of its own; names have nothing to do with it.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// What an origin does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Says back what it hears, and ends when the client does.
    Echo,
    /// Answers every request with its path, and keeps the connection.
    Polite,
    /// Answers in small pieces, slowly.
    Trickling,
    /// Takes the request and says nothing.
    Stalling,
    /// Closes in the middle of a body.
    ShortOfIts,
    /// Sends more than it announced.
    Overlong,
    /// Says two lengths.
    TwoLengths,
    /// Says what is no HTTP.
    Garbage,
    /// Closes without an answer.
    Silent,
    /// Resets after half an answer.
    Resetting,
}

/// Where origins listen.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) echo: u16,
    pub(crate) polite: u16,
    pub(crate) trickling: u16,
    pub(crate) bad: Vec<u16>,
}

/// Those whose answer cannot be right.
const BAD: &[Manner] = &[
    Manner::Stalling,
    Manner::ShortOfIts,
    Manner::Overlong,
    Manner::TwoLengths,
    Manner::Garbage,
    Manner::Silent,
    Manner::Resetting,
];

/// Longer than a proxy waits.
const STALL: Duration = Duration::from_secs(6);

impl Ports {
    /// Starts one origin of each kind.
    pub(crate) async fn start() -> Self {
        let mut bad = Vec::new();
        for manner in BAD {
            bad.push(manner.start().await);
        }
        Self {
            echo: Manner::Echo.start().await,
            polite: Manner::Polite.start().await,
            trickling: Manner::Trickling.start().await,
            bad,
        }
    }
}

impl Manner {
    async fn start(self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).ok();
                    tokio::spawn(self.serve(stream));
                }
            }
        });
        port
    }

    async fn serve(self, mut stream: TcpStream) {
        match self {
            Self::Echo => echo(&mut stream).await,
            Self::Polite => while answer(&mut stream).await.is_some() {},
            Self::Trickling => {
                head(&mut stream).await;
                let start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                stream.write_all(start).await.ok();
                for piece in ["3\r\nslo\r\n", "5\r\nw an", "d\r\n7\r\nsteady!\r\n0\r\n", "\r\n"] {
                    sleep(Duration::from_millis(50)).await;
                    stream.write_all(piece.as_bytes()).await.ok();
                }
            }
            Self::Stalling => {
                head(&mut stream).await;
                sleep(STALL).await;
            }
            Self::ShortOfIts => {
                say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf").await
            }
            Self::Overlong => {
                let more =
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 Smuggled\r\n\r\n";
                say(stream, more).await;
            }
            Self::TwoLengths => {
                let two = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nokkkk";
                say(stream, two).await;
            }
            Self::Garbage => say(stream, b"\0\xff220 smtp.test ESMTP\r\n\r\n").await,
            Self::Silent => say(stream, b"").await,
            Self::Resetting => {
                head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").await.ok();
                reset(stream);
            }
        }
    }
}

/// Ends a connection at once, as a crash does.
pub(crate) fn reset(stream: TcpStream) {
    stream.set_zero_linger().ok();
    drop(stream);
}

async fn say(mut stream: TcpStream, answer: &[u8]) {
    head(&mut stream).await;
    stream.write_all(answer).await.ok();
}

async fn echo(stream: &mut TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    stream.shutdown().await.ok();
}

/// Answers one request; none: there is no other.
async fn answer(stream: &mut TcpStream) -> Option<()> {
    let head = head(stream).await?;
    let path = head.split(' ').nth(1)?.to_owned();
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let size = path.strip_prefix("/bytes/").and_then(|size| size.parse().ok());
    let body = size.map_or_else(|| path.into_bytes(), |size| vec![b'x'; size]);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&body).await.ok()
}

/// A request's head; none: there is none.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
