//! Clients, good ones and bad ones; each says whether it was treated as it should be.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    moment::{LOST, Moment, OK, PLACES, Place},
    origins::{Ports, reset},
    random::Random,
    support,
};

/// What a client needs to know.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) proxy: SocketAddr,
    pub(crate) moment: Moment,
    pub(crate) ports: Arc<Ports>,
    /// When clients stop.
    pub(crate) end: Instant,
}

/// What clients do. Each is one connection, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deed {
    Get,
    KeepAlive,
    Echo,
    LongTunnel,
    SlowHead,
    SlowReader,
    Upload,
    GoesAway,
    BadOrigin,
    LostName,
    WrongSni,
    Garbage,
    NeverEnds,
}

pub(crate) const DEEDS: &[Deed] = &[
    Deed::Get,
    Deed::KeepAlive,
    Deed::Echo,
    Deed::LongTunnel,
    Deed::SlowHead,
    Deed::SlowReader,
    Deed::Upload,
    Deed::GoesAway,
    Deed::BadOrigin,
    Deed::LostName,
    Deed::WrongSni,
    Deed::Garbage,
    Deed::NeverEnds,
];

/// How it went, if it went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// As asked for.
    Served,
    /// By policy, rightly.
    Refused,
    /// By the client's or the origin's own fault, and said so.
    Failed,
    /// The policy changed meanwhile, so that either was right.
    Straddled,
}

/// What went wrong.
pub(crate) type Fault = String;

impl Deed {
    /// Does it once.
    pub(crate) async fn run(self, world: &Arc<World>, random: &mut Random) -> Result<Fate, Fault> {
        let place = *random.of(PLACES);
        match self {
            Self::Get => get(world, place, world.ports.polite, "/a/path", b"/a/path").await,
            Self::KeepAlive => keep_alive(world, place, random).await,
            Self::Echo => echo(world, place, random).await,
            Self::LongTunnel => long_tunnel(world, place).await,
            Self::SlowHead => slow_head(world, place).await,
            Self::SlowReader => slow_reader(world).await,
            Self::Upload => upload(world, place).await,
            Self::GoesAway => goes_away(world, random).await,
            Self::BadOrigin => bad_origin(world, random).await,
            Self::LostName => lost_name(world, random.of::<&str>(LOST)).await,
            Self::WrongSni => wrong_sni(world).await,
            Self::Garbage => garbage(world, random).await,
            Self::NeverEnds => never_ends(world, random).await,
        }
    }
}

/// Compares an answer with what the policy said all the time since `then`.
fn judge(
    world: &World,
    place: Place,
    then: u64,
    answer: &[u8],
    is_served: bool,
) -> Result<Fate, Fault> {
    let refused = answer.starts_with(b"HTTP/1.1 403 exeat: ");
    match (world.moment.allows(place, then), refused) {
        (None, _) if refused || is_served => Ok(Fate::Straddled),
        // A new policy cuts off an answer under way.
        (None, false) if answer.starts_with(b"HTTP/1.1 200 ") => Ok(Fate::Straddled),
        (Some(true), false) if is_served => Ok(Fate::Served),
        (Some(false), true) => Ok(Fate::Refused),
        (allowed, _) => Err(format!("{}: allowed {allowed:?}, but {}", place.name, shown(answer))),
    }
}

fn shown(bytes: &[u8]) -> String {
    format!("{} bytes: {}", bytes.len(), bytes[..bytes.len().min(120)].escape_ascii())
}

async fn get(
    world: &World,
    place: Place,
    port: u16,
    path: &str,
    body: &[u8],
) -> Result<Fate, Fault> {
    let then = world.moment.now();
    let answer = ask(world, &request(place.name, port, path, "close")).await;
    let served = answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(body);
    judge(world, place, then, &answer, served)
}

/// Requests for several hosts on one connection; a refusal may end it.
async fn keep_alive(world: &World, first: Place, random: &mut Random) -> Result<Fate, Fault> {
    let mut stream = support::raw_connect(world.proxy).await;
    let mut fate = Fate::Served;
    for number in 0..6 {
        let place = if number == 0 { first } else { *random.of(PLACES) };
        let then = world.moment.now();
        let path = format!("/{number}");
        let request = request(place.name, world.ports.polite, &path, "keep-alive");
        if stream.write_all(&request).await.is_err() {
            return Err("a kept connection was closed".into());
        }
        let answer = read_message(&mut stream).await;
        let served = answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(path.as_bytes());
        fate = judge(world, place, then, &answer, served)?;
    }
    Ok(fate)
}

async fn echo(world: &World, place: Place, random: &mut Random) -> Result<Fate, Fault> {
    let then = world.moment.now();
    let (mut stream, answer) = tunnel(world, place.name, world.ports.echo).await;
    let open = answer.starts_with(b"HTTP/1.1 200 ");
    let fate = judge(world, place, then, &answer, open)?;
    if !open {
        return Ok(fate);
    }
    let said: Vec<u8> = std::iter::once(b'#').chain(random.bytes(200_000)).collect();
    let (mut from, mut to) = stream.split();
    let saying = async {
        to.write_all(&said).await.ok();
        to.shutdown().await.ok(); // Half: the answer is still to come.
    };
    let mut heard = Vec::new();
    let (_, _) = tokio::join!(saying, from.read_to_end(&mut heard));
    match (heard == said, world.moment.allows(place, then)) {
        (true, _) => Ok(fate),
        (false, Some(true)) => Err(format!("said {}, heard {}", said.len(), heard.len())),
        (false, _) => Ok(Fate::Straddled),
    }
}

/// Lives as long as the policy allows it, and no longer.
async fn long_tunnel(world: &World, place: Place) -> Result<Fate, Fault> {
    let then = world.moment.now();
    let (mut stream, answer) = tunnel(world, place.name, world.ports.echo).await;
    let open = answer.starts_with(b"HTTP/1.1 200 ");
    let fate = judge(world, place, then, &answer, open)?;
    for number in 0..60_u8 {
        if !open || Instant::now() > world.end {
            return Ok(fate);
        }
        let then = world.moment.now();
        let word = [b'#', number];
        let mut echoed = [0; 2];
        let moved = stream.write_all(&word).await.is_ok()
            && stream.read_exact(&mut echoed).await.is_ok()
            && echoed == word;
        match (world.moment.allows(place, then), moved) {
            (Some(true), false) => return Err(format!("a tunnel to {} was cut", place.name)),
            (Some(false), true) => return Err(format!("a tunnel to {} lives on", place.name)),
            (_, false) => return Ok(Fate::Straddled),
            (_, true) => {}
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(fate)
}

async fn slow_head(world: &World, place: Place) -> Result<Fate, Fault> {
    let then = world.moment.now();
    let mut stream = support::raw_connect(world.proxy).await;
    for piece in request(place.name, world.ports.trickling, "/", "close").chunks(7) {
        if stream.write_all(piece).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let answer = rest_of(&mut stream).await;
    let served = answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"0\r\n\r\n");
    judge(world, place, then, &answer, served)
}

async fn slow_reader(world: &World) -> Result<Fate, Fault> {
    let mut stream = support::raw_connect(world.proxy).await;
    let request = request(OK.name, world.ports.polite, "/bytes/2000000", "close");
    stream.write_all(&request).await.ok();
    let mut length = 0;
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        length += read;
        sleep(Duration::from_millis(5)).await;
    }
    if length > 2_000_000 { Ok(Fate::Served) } else { Err(format!("{length} bytes")) }
}

async fn upload(world: &World, place: Place) -> Result<Fate, Fault> {
    let then = world.moment.now();
    let mut stream = support::raw_connect(world.proxy).await;
    let (name, port) = (place.name, world.ports.polite);
    let head = format!(
        "POST http://{name}:{port}/up HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\
         Content-Length: 50000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.ok();
    for _ in 0..50 {
        // A refused one may be cut off before it has said all.
        if stream.write_all(&[b'u'; 1000]).await.is_err() {
            break;
        }
    }
    let answer = rest_of(&mut stream).await;
    let served = answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"/up");
    judge(world, place, then, &answer, served)
}

/// In the middle of a head, a body, an answer or a tunnel.
async fn goes_away(world: &World, random: &mut Random) -> Result<Fate, Fault> {
    let mut stream = match random.below(4) {
        0 => {
            let (mut stream, _) = tunnel(world, OK.name, world.ports.echo).await;
            stream.write_all(&random.bytes(50_000)).await.ok();
            stream
        }
        which => {
            let mut stream = support::raw_connect(world.proxy).await;
            let request = match which {
                1 => request(OK.name, world.ports.polite, "/bytes/5000000", "close"),
                2 => request("slow.test", world.ports.trickling, "/", "close"),
                _ => b"POST http://ok.test/ HTTP/1.1\r\nHost: ok.te".to_vec(),
            };
            stream.write_all(&request).await.ok();
            stream
        }
    };
    sleep(Duration::from_millis(random.below(200))).await;
    match random.below(3) {
        0 => reset(stream),
        1 => drop(stream),
        _ => {
            stream.shutdown().await.ok();
            rest_of(&mut stream).await;
        }
    }
    Ok(Fate::Failed)
}

async fn bad_origin(world: &World, random: &mut Random) -> Result<Fate, Fault> {
    let port = *random.of(&world.ports.bad);
    let answer = ask(world, &request(OK.name, port, "/", "close")).await;
    let text = String::from_utf8_lossy(&answer);
    match text.contains("Smuggled") || !text.starts_with("HTTP/1.1 ") || text.contains(" 403 ") {
        true => Err(shown(&answer)),
        false => Ok(Fate::Failed),
    }
}

async fn lost_name(world: &World, name: &str) -> Result<Fate, Fault> {
    let answer = ask(world, &request(name, world.ports.polite, "/", "close")).await;
    let failed = answer.starts_with(b"HTTP/1.1 502 ") || answer.starts_with(b"HTTP/1.1 504 ");
    if failed { Ok(Fate::Failed) } else { Err(format!("{name}: {}", shown(&answer))) }
}

async fn wrong_sni(world: &World) -> Result<Fate, Fault> {
    let (mut stream, answer) = tunnel(world, OK.name, world.ports.echo).await;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        return Err(shown(&answer));
    }
    for piece in hello("evil.test").chunks(16) {
        stream.write_all(piece).await.ok();
    }
    let heard = rest_of(&mut stream).await;
    // An alert, and not the echo of a handshake.
    if heard.first() == Some(&21) { Ok(Fate::Refused) } else { Err(shown(&heard)) }
}

async fn garbage(world: &World, random: &mut Random) -> Result<Fate, Fault> {
    let mut stream = support::raw_connect(world.proxy).await;
    stream.write_all(&random.bytes(5_000)).await.ok();
    stream.shutdown().await.ok();
    let answer = rest_of(&mut stream).await;
    // What does not even say its version is answered in HTTP/1.0.
    let refused = answer.is_empty()
        || [b"HTTP/1.1 4", b"HTTP/1.0 4"].iter().any(|start| answer.starts_with(*start));
    if refused { Ok(Fate::Failed) } else { Err(shown(&answer)) }
}

/// A head or a hello whose end never comes: the proxy ends it.
async fn never_ends(world: &World, random: &mut Random) -> Result<Fate, Fault> {
    let mut stream = match random.below(2) {
        0 => {
            let mut stream = support::raw_connect(world.proxy).await;
            stream.write_all(b"GET http://ok.test/ HTTP/1.1\r\nHos").await.ok();
            stream
        }
        _ => {
            let (mut stream, _) = tunnel(world, OK.name, world.ports.echo).await;
            stream.write_all(&hello(OK.name)[..30]).await.ok();
            stream
        }
    };
    let answer = rest_of(&mut stream).await;
    match answer.starts_with(b"HTTP/1.1 2") || answer.starts_with(&[22]) {
        true => Err(shown(&answer)),
        false => Ok(Fate::Failed),
    }
}

fn request(name: &str, port: u16, path: &str, connection: &str) -> Vec<u8> {
    format!(
        "GET http://{name}:{port}{path} HTTP/1.1\r\nHost: {name}:{port}\r\n\
         Connection: {connection}\r\n\r\n"
    )
    .into()
}

async fn ask(world: &World, request: &[u8]) -> Vec<u8> {
    let mut stream = support::raw_connect(world.proxy).await;
    stream.write_all(request).await.ok();
    rest_of(&mut stream).await
}

/// Asks for a tunnel; the answer's head.
async fn tunnel(world: &World, name: &str, port: u16) -> (TcpStream, Vec<u8>) {
    let mut stream = support::raw_connect(world.proxy).await;
    let request = format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok();
    let head = read_head(&mut stream).await;
    (stream, head)
}

async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return head };
        head.push(byte);
    }
    head
}

/// An answer with a length.
async fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut message = read_head(stream).await;
    let text = String::from_utf8_lossy(&message).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if stream.read_exact(&mut body).await.is_ok() {
        message.extend(body);
    }
    message
}

async fn rest_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.ok();
    rest
}

/// A ClientHello with a name and nothing else (RFC 8446 §4.1.2, RFC 6066 §3).
fn hello(name: &str) -> Vec<u8> {
    let counted = |width: usize, content: &[u8]| -> Vec<u8> {
        let length = content.len().to_be_bytes();
        [&length[length.len() - width..], content].concat()
    };
    let name = counted(2, &[&[0][..], &counted(2, name.as_bytes())].concat());
    let extensions = counted(2, &[&[0, 0][..], &counted(2, &name)].concat());
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
    let message = [&[1][..], &counted(3, &body)].concat();
    [&[22, 3, 1][..], &counted(2, &message)].concat()
}
