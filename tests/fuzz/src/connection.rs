//! Whole connections: nothing reaches an origin that `check` would refuse.
//!
//! A proxy is served in this process, on real sockets, with a static table of names: each has a
//! loopback address of its own, with an origin on each port that can be had, whether the policy
//! allows it or not. Every connection that an origin gets, and every byte on it, must belong to a
//! request or a tunnel that [`Policy::decide`] allows; what belongs to it is read a second time
//! here, by other parsers than the proxy's.
//!
//! The first byte says in how large pieces the rest is sent, the second how long to wait between
//! them, what the origins are like and whether SOCKS5 is spoken. The client then says that it is done, and reads to the end.

use std::{
    cell::OnceCell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZero,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use exeat::{
    app::{App, Opened},
    net::{Authority, DnsName, Host, Port},
    policy::{Egress, Outcome, Policy, Review, Source},
    settings::{Environment, Flags, Settings, SettingsFile},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
    task::yield_now,
    time::timeout,
};

use super::{acceptor::name_read_by_rustls, http, socks5::asked};

/// A proxy, and origins for every name it knows.
struct Rig {
    runtime: Runtime,
    proxy: SocketAddr,
    socks: SocketAddr,
    policy: Policy,
    shared: Arc<Shared>,
    /// Which input it is: connections to origins do not outlive theirs.
    round: watch::Sender<u64>,
    _app: App,
}

/// What the origins and the client share.
#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Arc<Received>>>,
    open: AtomicUsize,
    manner: Mutex<Manner>,
}

/// One connection to an origin.
struct Received {
    origin: Authority,
    bytes: Mutex<Vec<u8>>,
}

/// What an origin is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Manner {
    /// It answers every whole request.
    #[default]
    Polite,
    /// ... and says that it closes, and does.
    Closing,
    /// It says something that is no answer.
    Lying,
    /// It closes when it hears something.
    Rude,
}

const POLICY: &str = r#"
[experimental_network]
allowed_domains = [
    "ok.test", "*.ok.test", "example.com", "*.example.com", "port.test:8080", "build-?.glob*.test",
]
denied_domains = ["denied.ok.test", "*.exfil.example.com", "**.evil.example.com"]
"#;

/// Names that resolve, allowed and refused ones.
const NAMES: &[&str] = &[
    "ok.test",
    "www.ok.test",
    "denied.ok.test",
    "example.com",
    "www.example.com",
    "a.exfil.example.com",
    "evil.example.com",
    "port.test",
    "build-1.glob.test",
    "evil.test",
    "test",
    "com",
];

/// Of which the first two cannot be had by everybody.
const PORTS: &[u16] = &[80, 443, 8080];

const SETTINGS: &str = r#"
[listen]
http = "127.0.0.1:0"
socks = "127.0.0.1:0"
[audit]
to = "off"
[egress]
private = ["127.0.0.0/8"]
[timeouts]
request_head = "2s"
response_head = "2s"
connect = "2s"
dns = "1s"
first_bytes = "1s"
idle = "5s"
[dns]
servers = []
[dns.hosts]
"#;

/// For one input; nothing takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);

thread_local! {
    static RIG: OnceCell<Rig> = const { OnceCell::new() };
}

/// A client's connection. Says how many connections origins got for it.
pub fn connection(input: &[u8]) -> usize {
    let [step, manner, bytes @ ..] = input else { return 0 };
    RIG.with(|rig| rig.get_or_init(Rig::start).check(*step, *manner, bytes))
}

impl Rig {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let shared = Arc::<Shared>::default();
        let (round, rounds) = watch::channel(0);
        let (network, app) = runtime.block_on(async {
            let network = bind(&shared, &rounds).await;
            let app = serve(network).await;
            (network, app)
        });
        let (proxy, socks) =
            (app.place().address().unwrap(), app.socks_place().unwrap().address().unwrap());
        assert!(network[0] == 127 && proxy.ip().is_loopback() && socks.ip().is_loopback());
        let review = Review::of(POLICY.as_bytes(), &Arc::new(Source::file("fuzz.toml")), 7);
        let Outcome::Ruleset(ruleset) = review.outcome else { panic!("{:?}", review.problems) };
        let policy = Policy::new(*ruleset, Egress::default(), 1);
        Self { runtime, proxy, socks, policy, shared, round, _app: app }
    }

    fn check(&self, step: u8, manner: u8, bytes: &[u8]) -> usize {
        *self.shared.manner.lock().unwrap() = match manner & 3 {
            0 => Manner::Polite,
            1 => Manner::Closing,
            2 => Manner::Lying,
            _ => Manner::Rude,
        };
        let pause = usize::from(manner >> 2 & 15);
        let by_socks = manner & 64 != 0;
        let proxy = if by_socks { self.socks } else { self.proxy };
        let answer = self.runtime.block_on(async {
            let answer = timeout(PATIENCE, exchange(proxy, step, pause, bytes)).await;
            self.round.send_modify(|round| *round += 1);
            timeout(PATIENCE, self.origins_are_done()).await.expect("origins come to an end");
            answer.expect("a client that is done is answered, or closed")
        });
        let received = std::mem::take(&mut *self.shared.received.lock().unwrap());
        for received in &received {
            let got = received.bytes.lock().unwrap();
            if let Err(why) = self.may_have(&received.origin, &got, bytes, by_socks) {
                panic!("{} got {:?}: {why}", received.origin, got.escape_ascii().to_string());
            }
        }
        // Answers to HEAD have no body, whatever length they say.
        let has_head = bytes.windows(5).any(|word| word == b"HEAD ");
        if manner & 3 != 2 && !has_head && !by_socks {
            http::answers(&answer).unwrap();
        }
        received.len()
    }

    async fn origins_are_done(&self) {
        // Connections that nobody has taken yet.
        for _ in 0..4 {
            yield_now().await;
        }
        while self.shared.open.load(Ordering::SeqCst) > 0 {
            yield_now().await;
        }
    }

    /// Whether an origin may have been sent those bytes by a client that sent `sent`.
    fn may_have(
        &self,
        origin: &Authority,
        got: &[u8],
        sent: &[u8],
        by_socks: bool,
    ) -> Result<(), String> {
        if let Err(denial) = self.policy.decide(origin) {
            return Err(format!("refused: {:?}", denial.reason));
        }
        if by_socks {
            let asked =
                asked(sent).filter(|(asked, rest)| asked == origin && rest.starts_with(got));
            return asked.map_or_else(|| Err("not asked for".into()), |_| may_open(origin, got));
        }
        match tunnel(origin, got, sent) {
            true => may_open(origin, got),
            false => http::requests(got, origin).map(drop),
        }
    }
}

/// Whether the client asked for a tunnel to that origin and then sent just those bytes.
fn tunnel(origin: &Authority, got: &[u8], sent: &[u8]) -> bool {
    sent.windows(CONNECT.len()).enumerate().filter(|(_, word)| *word == CONNECT).any(|(at, _)| {
        let rest = &sent[at + CONNECT.len()..];
        let target = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
        let head = rest.windows(4).position(|end| end == b"\r\n\r\n");
        Authority::parse_connect(target).as_ref() == Ok(origin)
            && head.is_some_and(|head| rest[head + 4..].starts_with(got))
    })
}

const CONNECT: &[u8] = b"CONNECT ";

/// Whether a tunnel may begin like that.
fn may_open(origin: &Authority, got: &[u8]) -> Result<(), String> {
    let is_tls = got.first().is_none_or(|byte| *byte == 22 || *byte >= 128);
    if origin.port == Port::HTTPS && !is_tls {
        return Err("no TLS on port 443".into());
    }
    if let Some(name) = name_read_by_rustls(got) {
        let name = name.map(|name| name.to_ascii_lowercase());
        if name.as_deref() != Some(origin.host.to_string().as_str()) {
            return Err(format!("SNI {name:?}"));
        }
    }
    match http::names_another_host(got, origin) {
        true => Err("an HTTP head for another host".into()),
        false => Ok(()),
    }
}

/// Sends the bytes in pieces, then says that nothing comes any more; what came back.
#[expect(clippy::disallowed_methods, reason = "a client dials its proxy without a permit")]
async fn exchange(proxy: SocketAddr, step: u8, pause: usize, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut from, mut to) = stream.split();
    let step = match usize::from(step) {
        0 => bytes.len().max(1),
        step => step.max(bytes.len() / MAX_PIECES),
    };
    let sending = async {
        for piece in bytes.chunks(step) {
            if to.write_all(piece).await.is_err() {
                break; // The proxy has heard enough.
            }
            for _ in 0..pause {
                yield_now().await;
            }
        }
        to.shutdown().await.ok();
    };
    let mut answer = Vec::new();
    let reading = from.read_to_end(&mut answer);
    let (_, read) = tokio::join!(sending, reading);
    read.ok();
    answer
}

const MAX_PIECES: usize = 64;

/// Starts origins for all names, at 127.x.y.1 and what follows; says 127.x.y.
async fn bind(shared: &Arc<Shared>, rounds: &watch::Receiver<u64>) -> [u8; 3] {
    let [.., high, low] = std::process::id().to_be_bytes();
    for attempt in 0..u8::MAX {
        let network = [127, high ^ attempt, low];
        let mut listeners = Vec::new();
        for (number, name) in (1..).zip(NAMES) {
            let [a, b, c] = network;
            let address = Ipv4Addr::new(a, b, c, number);
            for port in PORTS {
                if let Ok(listener) = TcpListener::bind((address, *port)).await {
                    let origin = Authority {
                        host: Host::Name(DnsName::parse(name.as_bytes()).unwrap()),
                        port: Port::parse(port.to_string().as_bytes()).unwrap(),
                    };
                    listeners.push((listener, origin));
                }
            }
        }
        // All ports, or those that are not reserved.
        if [1, PORTS.len()].iter().any(|ports| listeners.len() == NAMES.len() * ports) {
            for (listener, origin) in listeners {
                tokio::spawn(accept(listener, origin, Arc::clone(shared), rounds.clone()));
            }
            return network;
        }
    }
    panic!("no loopback addresses for origins");
}

async fn serve(network: [u8; 3]) -> App {
    let [a, b, c] = network;
    let mut settings = SETTINGS.to_owned();
    for (number, name) in (1..).zip(NAMES) {
        settings += &format!("{name:?} = [\"{}\"]\n", IpAddr::from([a, b, c, number]));
    }
    let policy = std::env::temp_dir().join(format!("exeat-fuzz-{}.toml", std::process::id()));
    std::fs::write(&policy, POLICY).unwrap();
    let flags = Flags {
        requirements: Some(policy.clone()),
        insecure_policy_permissions: true,
        ..Flags::default()
    };
    let file = SettingsFile::parse(&settings).unwrap();
    let settings = Settings::resolve(flags, Environment::default(), file);
    let opened = Opened::new(settings, Path::new("/nonexistent"));
    std::fs::remove_file(policy).unwrap();
    opened.unwrap().start(NonZero::<usize>::MIN).await.unwrap()
}

async fn accept(
    listener: TcpListener,
    origin: Authority,
    shared: Arc<Shared>,
    rounds: watch::Receiver<u64>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::new(Received { origin: origin.clone(), bytes: Mutex::default() });
        shared.received.lock().unwrap().push(Arc::clone(&received));
        shared.open.fetch_add(1, Ordering::SeqCst);
        let (shared, mut rounds) = (Arc::clone(&shared), rounds.clone());
        rounds.mark_unchanged();
        tokio::spawn(async move {
            received.serve(stream, &shared, rounds).await;
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

impl Received {
    /// Keeps what comes and answers, until the peer is done or the round is over.
    async fn serve(
        &self,
        mut stream: TcpStream,
        shared: &Shared,
        mut rounds: watch::Receiver<u64>,
    ) {
        let manner = *shared.manner.lock().unwrap();
        let mut buffer = vec![0; 16 << 10];
        let mut answered = 0;
        loop {
            let read = tokio::select! {
                biased;
                read = stream.read(&mut buffer) => read,
                _ = rounds.changed() => return,
            };
            let Ok(read @ 1..) = read else { return };
            let requests = {
                let mut bytes = self.bytes.lock().unwrap();
                bytes.extend_from_slice(&buffer[..read]);
                http::requests(&bytes, &self.origin).unwrap_or(0)
            };
            let answer: &[u8] = match manner {
                Manner::Polite => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Manner::Closing => {
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
                }
                Manner::Lying => b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nokHTTP/1.1 ",
                Manner::Rude => return,
            };
            while answered < requests {
                if stream.write_all(answer).await.is_err() {
                    return;
                }
                answered += 1;
                if manner != Manner::Polite {
                    return;
                }
            }
        }
    }
}
