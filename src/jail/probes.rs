//! What a program here can reach without the proxy, found by trying: `exeat doctor`.
//!
//! Blocking, with a deadline each. The addresses that are tried belong to a public resolver and to the
//! metadata services of clouds; nothing is sent to them but what asks for an answer.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket},
    thread,
    time::Duration,
};

#[cfg(target_os = "linux")]
use super::fault::visible;
use super::names::is_stand_in;

/// One way out.
type Attempt = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// What came of trying one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What was tried.
    pub what: String,
    /// Whether it went through, or why not.
    pub outcome: Result<(), String>,
}

/// Cloudflare's resolver, which answers TCP and QUIC on 443 and DNS on 53, in both families.
const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111));
/// Of most clouds.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
/// RFC 2606 §3.
const NAME: &str = "example.com";

const PATIENCE: Duration = Duration::from_secs(3);

/// Tries every way out but unix sockets, at once.
#[must_use]
pub fn probe_network() -> Vec<Probe> {
    let tcp = |address, port| move || tcp(SocketAddr::new(address, port));
    let udp = |address, port, question: fn() -> Vec<u8>| {
        move || udp(SocketAddr::new(address, port), &question())
    };
    let attempts: Vec<(String, Attempt)> = vec![
        (format!("TCP to {V4}:443"), Box::new(tcp(V4, 443))),
        (format!("TCP to [{V6}]:443"), Box::new(tcp(V6, 443))),
        (format!("UDP (QUIC) to {V4}:443"), Box::new(udp(V4, 443, quic))),
        (format!("UDP (QUIC) to [{V6}]:443"), Box::new(udp(V6, 443, quic))),
        (format!("UDP (DNS) to {V4}:53"), Box::new(udp(V4, 53, dns))),
        (format!("metadata service at {METADATA}:80"), Box::new(tcp(METADATA, 80))),
        (format!("the system's resolver, asked for {NAME}"), Box::new(resolve)),
    ];
    thread::scope(|scope| {
        let running: Vec<_> =
            attempts.into_iter().map(|(what, attempt)| (what, scope.spawn(attempt))).collect();
        running
            .into_iter()
            .map(|(what, attempt)| {
                let outcome = attempt.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
                Probe { what, outcome: outcome.map_err(|error| error.to_string()) }
            })
            .collect()
    })
}

/// Tries every unix socket of the machine that can be found.
#[cfg(target_os = "linux")]
#[must_use]
pub fn probe_sockets() -> Vec<Probe> {
    use socket2::Type;

    // Each takes connections of its own kind only.
    let attempt = |path: &std::path::Path| {
        let kinds = [Type::STREAM, Type::SEQPACKET, Type::DGRAM];
        let mut attempts = kinds.iter().map(|kind| unix(path, *kind));
        attempts.find(|outcome| !matches!(outcome, Err(error) if is_wrong_kind(error)))
    };
    let mut probes = Vec::new();
    for path in super::sockets::find_all() {
        let outcome = attempt(&path).unwrap_or_else(|| Err(io::ErrorKind::Unsupported.into()));
        probes.push(Probe {
            what: visible(&format!("unix socket {}", path.display())),
            outcome: outcome.map_err(|error| error.to_string()),
        });
    }
    probes
}

/// Never waits: one whose queue is full is there.
#[cfg(target_os = "linux")]
fn unix(path: &std::path::Path, kind: socket2::Type) -> io::Result<()> {
    use socket2::{Domain, SockAddr, Socket};

    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        done => done,
    }
}

#[cfg(target_os = "linux")]
fn is_wrong_kind(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error())
}

/// Only Linux says where they are.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn probe_sockets() -> Vec<Probe> {
    Vec::new()
}

/// Only an answer shows that it is the host: in a jail every connection begins.
fn tcp(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    match stream.read(&mut [0; 1])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Only an answer shows that a datagram went through.
fn udp(address: SocketAddr, question: &[u8]) -> io::Result<()> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    socket.send(question)?;
    socket.recv(&mut [0; 2048]).map(drop)
}

/// It has deadlines of its own, set by the system.
fn resolve() -> io::Result<()> {
    // A jail's own answers are no answers: nobody outside was asked.
    match (NAME, 443).to_socket_addrs()?.all(|address| is_stand_in(address.ip())) {
        true => Err(io::Error::other("answered in the jail, without asking anybody")),
        false => Ok(()),
    }
}

/// A first packet of a version that nobody has: the answer is a list of those there are (RFC 9000
/// §6.1; reserved versions in §15). It must fill a datagram (§14.1).
fn quic() -> Vec<u8> {
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8];
    packet.extend(b"exeatdst");
    packet.push(8);
    packet.extend(b"exeatsrc");
    packet.resize(1200, 0);
    packet
}

/// A question for an address (RFC 1035 §4).
fn dns() -> Vec<u8> {
    let mut query = vec![0x65, 0x78, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in NAME.split('.') {
        query.extend(u8::try_from(label.len()).ok());
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}
