//! Many more connections at once than are served. All send a request, none leaves before the last
//! has its answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    sync::Barrier,
    time::{Instant, sleep, timeout},
};

use super::{
    Left,
    client::{connect, exchange, read_to_end, request},
    proxy::Proxy,
};

#[derive(Debug, Clone, Copy)]
enum End {
    Served,
    TurnedAway,
    Closed,
    Hung,
}

/// Whoever has no answer and no end by then has none. Handshakes that found a full queue are
/// repeated by the kernel after 1, 3, 7 and 15 seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests in a row that must be served before it counts as recovered.
const IN_A_ROW: usize = 100;

/// How many were served, how the others left, and how long after the last had left until
/// everybody was served again.
pub(crate) async fn run(proxy: &Proxy, origin: u16, count: usize) -> (usize, Left, Duration) {
    let everybody = Arc::new(Barrier::new(count));
    let clients: Vec<_> = (0..count)
        .map(|number| {
            let everybody = Arc::clone(&everybody);
            tokio::spawn(come(proxy.address, origin, number, everybody))
        })
        .collect();
    let (mut served, mut left) = (0, Left::default());
    for client in clients {
        match client.await.unwrap() {
            End::Served => served += 1,
            End::TurnedAway => left.answered += 1,
            End::Closed => left.closed += 1,
            End::Hung => left.hung += 1,
        }
    }
    (served, left, recover(proxy.address, origin).await)
}

async fn come(proxy: SocketAddr, origin: u16, number: usize, everybody: Arc<Barrier>) -> End {
    let mut stream = None;
    let end = timeout(PATIENCE, ask(proxy, origin, number, &mut stream)).await;
    everybody.wait().await;
    end.unwrap_or(End::Hung)
}

/// Leaves the connection in `kept`, to be closed when everybody has an answer.
async fn ask(proxy: SocketAddr, origin: u16, number: usize, kept: &mut Option<TcpStream>) -> End {
    let Ok(stream) = connect(proxy, number).await else { return End::Closed };
    let stream = kept.insert(stream);
    match exchange(stream, &request(origin)).await {
        Ok(answer) if answer.status == 200 => End::Served,
        Ok(answer) if answer.status == 503 && !answer.keeps => {
            read_to_end(stream).await;
            End::TurnedAway
        }
        Ok(_) | Err(_) => End::Closed,
    }
}

async fn recover(proxy: SocketAddr, origin: u16) -> Duration {
    let begun = Instant::now();
    let (mut since, mut in_a_row) = (Duration::ZERO, 0);
    while in_a_row < IN_A_ROW && begun.elapsed() < PATIENCE {
        let mut kept = None;
        if let End::Served = ask(proxy, origin, 0, &mut kept).await {
            in_a_row += 1;
        } else {
            in_a_row = 0;
            since = begun.elapsed();
            sleep(Duration::from_millis(1)).await;
        }
    }
    since
}
