//! Much data through tunnels: all of it, in order, nobody else's; spliced and copied.

use std::{fs, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::support::{Proxy, ProxyBuilder, RawOrigin, connect_tunnel, eventually, read_head};

/// Many times what is moved at a time.
const MUCH: usize = 24 << 20;

/// More than all buffers before a slow reader hold.
const ENOUGH: usize = 8 << 20;

/// The bound on pipes, two descriptors each.
const PIPE_ENDS: usize = 128;

#[tokio::test]
async fn much_arrives_both_ways_spliced() {
    let pipes = much_arrives_both_ways("splice = true").await;
    assert_ne!(pipes, 0, "it went through a pipe");
}

#[tokio::test]
async fn much_arrives_both_ways_copied() {
    let pipes = much_arrives_both_ways("splice = false").await;
    assert_eq!(pipes, 0, "there is no pipe");
}

/// Returns how many ends of pipes there were at the end, beyond those at the start.
async fn much_arrives_both_ways(setting: &str) -> usize {
    let (origin, proxy) = start(setting).await;
    let before = pipe_ends(&proxy);
    let client = connect_tunnel(proxy.address, &format!("ok.test:{}", origin.port())).await;
    let server = origin.accept().await;
    let both = |stream: TcpStream, says: u32, hears: u32| async move {
        let (mut read, mut write) = stream.into_split();
        let writing = tokio::spawn(async move {
            write.write_all(&stream_of(says)).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        read.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap();
        assert!(received == stream_of(hears), "the bytes arrive as they were sent");
    };
    tokio::join!(both(client, 1, 2), both(server, 2, 1));
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "complete");
    assert_eq!(ends[0]["exeat.bytes.sent"], MUCH);
    assert_eq!(ends[0]["exeat.bytes.received"], MUCH);
    pipe_ends(&proxy).saturating_sub(before)
}

/// Readers that stand still hold all the pipes there may be: others are served without, and who
/// stood still loses nothing.
#[tokio::test]
async fn slow_readers_hold_nobody_up() {
    const SLOW: u8 = 66;
    let (origin, proxy) = start("").await;
    let before = pipe_ends(&proxy);
    let mut waiting = Vec::new();
    for number in 0..SLOW {
        let client = slow_tunnel(proxy.address, origin.port()).await;
        let mut server = origin.accept().await;
        tokio::spawn(async move {
            server.write_all(&vec![number; ENOUGH]).await.unwrap();
        });
        waiting.push(client);
    }
    eventually("no pipe is left", || (pipe_ends(&proxy) - before == PIPE_ENDS).then_some(())).await;

    let mut client = connect_tunnel(proxy.address, &format!("ok.test:{}", origin.port())).await;
    let mut server = origin.accept().await;
    let writing = tokio::spawn(async move { server.write_all(&vec![SLOW; ENOUGH]).await.unwrap() });
    assert!(read_all(&mut client).await == vec![SLOW; ENOUGH], "who reads is served");
    writing.await.unwrap();

    for (number, mut client) in (0..SLOW).zip(waiting) {
        assert!(read_all(&mut client).await == vec![number; ENOUGH], "the bytes of {number}");
    }
}

/// What a broken tunnel left in a pipe comes out nowhere else, and the pipe's place is free again.
#[tokio::test]
async fn broken_tunnels_leave_nothing_behind() {
    let (origin, proxy) = start("").await;
    let before = pipe_ends(&proxy);
    for number in 1..70 {
        let mut client = slow_tunnel(proxy.address, origin.port()).await;
        let mut server = origin.accept().await;
        let writing = tokio::spawn(async move {
            // Until the other end is reset.
            while server.write_all(&[number; 4096]).await.is_ok() {}
        });
        client.read_exact(&mut [0; 4096]).await.unwrap();
        eventually("the pipe is taken", || (pipe_ends(&proxy) > before).then_some(())).await;
        client.set_zero_linger().unwrap();
        drop(client);
        writing.await.unwrap();
    }
    let mut client = connect_tunnel(proxy.address, &format!("ok.test:{}", origin.port())).await;
    let mut server = origin.accept().await;
    tokio::spawn(async move { server.write_all(&vec![0; ENOUGH]).await.unwrap() });
    assert!(read_all(&mut client).await == vec![0; ENOUGH], "only what was sent here");
    assert_ne!(pipe_ends(&proxy), before, "there still are pipes");
}

async fn start(setting: &str) -> (RawOrigin, Proxy) {
    let proxy = ProxyBuilder::new("allowed_domains = [\"ok.test\"]")
        .local("ok.test")
        .settings(&format!("[tunnels]\n{setting}"))
        .start()
        .await;
    (RawOrigin::bind().await, proxy)
}

/// A tunnel whose client takes little at a time.
#[expect(clippy::disallowed_methods, reason = "a client dials its proxy without a permit")]
async fn slow_tunnel(proxy: SocketAddr, port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(128 << 10).unwrap();
    let mut stream = socket.connect(proxy).await.unwrap();
    let request = format!("CONNECT ok.test:{port} HTTP/1.1\r\nHost: ok.test:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    stream
}

async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = vec![0; ENOUGH];
    stream.read_exact(&mut all).await.unwrap();
    all
}

/// Bytes that tell which stream they belong to, and where.
fn stream_of(number: u32) -> Vec<u8> {
    let words = 0..u32::try_from(MUCH / 4).unwrap();
    words
        .flat_map(|word| word.wrapping_mul(2_654_435_761).wrapping_add(number).to_le_bytes())
        .collect()
}

fn pipe_ends(proxy: &Proxy) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
}
