//! Clients that never finish a head.

use std::time::Duration;

use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Left,
    client::{connect, read_answer, read_to_end},
    proxy::Proxy,
};

/// All of them, connected.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Vec<JoinHandle<End>>);

#[derive(Debug, Clone, Copy)]
enum End {
    Answered,
    Closed,
    Hung,
}

/// Twice what the proxy gives a head by default; whoever has no end by then has none.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two bytes.
pub(crate) const DRIP: Duration = Duration::from_secs(1);

impl Crowd {
    pub(crate) async fn start(proxy: &Proxy, count: usize) -> Self {
        let mut clients = Vec::new();
        for number in 0..count {
            let mut stream = connect(proxy.address, number).await.unwrap();
            stream.write_all(b"GET http://load.test/").await.unwrap();
            // Not all in the same moment.
            let turn = u32::try_from(number % 100).unwrap();
            clients.push(tokio::spawn(drip(stream, DRIP / 100 * turn)));
        }
        Self(clients)
    }

    /// Goes home.
    pub(crate) async fn disperse(self) {
        for client in self.0 {
            client.abort();
            // Cancelled, and its connection closed.
            client.await.ok();
        }
    }

    /// Waits until they are all gone, or it has taken too long.
    pub(crate) async fn leave(self) -> Left {
        let mut left = Left::default();
        for client in self.0 {
            match client.await.unwrap() {
                End::Answered => left.answered += 1,
                End::Closed => left.closed += 1,
                End::Hung => left.hung += 1,
            }
        }
        left
    }
}

async fn drip(mut stream: TcpStream, first: Duration) -> End {
    let ended = timeout(PATIENCE, async {
        let mut pause = first;
        loop {
            tokio::select! {
                answer = read_answer(&mut stream) => {
                    return match answer {
                        Ok(answer) if answer.status == 408 => {
                            read_to_end(&mut stream).await;
                            End::Answered
                        }
                        Ok(_) | Err(_) => End::Closed,
                    };
                }
                () = sleep(pause) => {}
            }
            if stream.write_all(b"x").await.is_err() {
                return End::Closed;
            }
            pause = DRIP;
        }
    });
    ended.await.unwrap_or(End::Hung)
}
