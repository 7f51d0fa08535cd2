//! The self-test at the start: seen in the log, by nobody else, and strict.

use std::{
    net::SocketAddr,
    num::NonZero,
    sync::{Arc, atomic::AtomicU64},
};

use exeat::{
    app::random_seed,
    dns::Resolver,
    observe::{Audit, Counters},
    policy::{Egress, Outcome, Policy, Review, Source},
    proxy::{Bound, Context, Endpoint, Listeners, Pipes, Places, UnixSockets, Workers, self_test},
    settings::{Environment, Flags, Settings, SettingsFile},
    upstream::Pool,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{ProxyBuilder, connect_to, exchange, raw_connect, read_answer, read_head};

#[tokio::test]
async fn it_stands_in_the_log_and_nowhere_else() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]")
        .settings("[limits]\nconnections = 1")
        .start()
        .await;
    let log = proxy.log();
    assert!(
        log.contains("self-test: exeat-self-test.invalid:443 is refused (not_allowed)"),
        "{log}"
    );
    // Its connection is gone: there is only one place.
    assert_eq!(exchange(proxy.address, &connect_to("b.test")).await.status, 403);
    let records = proxy.audit(1, |_| true).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["server.address"], "b.test");
}

#[tokio::test]
async fn it_finds_something_that_every_policy_refuses() {
    for (rules, said) in [
        ("allowed_domains = [\"*\"]", "169.254.169.254:80 is refused (not_allowed_local)"),
        (
            "allowed_domains = [\"*\"]\nallow_local_binding = true",
            "169.254.169.254:80 is refused (not_allowed_local)",
        ),
        (
            "allowed_domains = [\"*\", \"169.254.169.254\"]",
            "192.0.2.1:443 is refused (not_allowed_local)",
        ),
        (
            "allowed_domains = [\"*\", \"169.254.169.254\"]\nallow_local_binding = true",
            "no self-test",
        ),
        ("", "exeat-self-test.invalid:443 is refused (not_allowed)"),
    ] {
        let proxy = ProxyBuilder::new(rules).start().await;
        assert!(proxy.log().contains(said), "{rules}:\n{}", proxy.log());
    }
    let off = "[experimental_network]\nenabled = false\n";
    let proxy = ProxyBuilder::whole(off).start().await;
    assert!(proxy.log().contains("is refused (proxy_disabled)"), "{}", proxy.log());
}

#[tokio::test]
async fn a_list_of_clients_is_no_obstacle_and_still_holds() {
    let proxy =
        ProxyBuilder::new("").settings("[listen]\nclients = [\"10.0.0.0/8\"]").start().await;
    assert!(proxy.log().contains("self-test: exeat-self-test.invalid:443 is refused"));
    let answer = exchange(proxy.address, &connect_to("b.test")).await;
    assert!(answer.phrase.contains("may not use this proxy"), "{}", answer.phrase);
}

/// What a proxy is made of, with a policy that allows nothing.
fn context(limits: &str) -> Arc<Context> {
    let settings = SettingsFile::parse(&format!("[dns]\nservers = []\n{limits}")).unwrap();
    let settings = Settings::resolve(Flags::default(), Environment::default(), settings);
    let source = Arc::new(Source::file("test.toml"));
    let text = b"[experimental_network]\nenabled = true\n";
    let Outcome::Ruleset(rules) = Review::of(text, &source, random_seed()).outcome else {
        panic!("the policy is sound");
    };
    let counters = Arc::new(Counters::default());
    let (_, policy) = watch::channel(Arc::new(Policy::new(*rules, Egress::default(), 1)));
    Arc::new(Context {
        parent: None,
        policy,
        resolver: Resolver::new(&settings.dns, settings.timeouts.dns).unwrap(),
        pool: Pool::new(1, 1, settings.timeouts.idle_origin),
        audit: Audit::off(Arc::clone(&counters)),
        counters,
        clients: Vec::new(),
        places: Places::new(&settings.limits),
        limits: settings.limits,
        pipes: Pipes::new(true),
        timeouts: settings.timeouts,
        tls: Arc::new(settings.tls),
        tasks: TaskTracker::new(),
        drain: CancellationToken::new(),
        abort: CancellationToken::new(),
        destinations: None,
        own_addresses: Vec::new(),
        own_connections: None,
        unix_sockets: UnixSockets::Closed,
        requests: AtomicU64::new(0),
    })
}

fn bound() -> TcpListener {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    Bound::new(free).unwrap().into_listener().unwrap()
}

/// The queue is full of them before anybody accepts, and they come again and again.
#[tokio::test]
async fn a_crowd_from_the_first_moment_is_no_obstacle() {
    let context = context("[limits]\nconnections = 1\nrequests = 1\n");
    let (bound_by_all, own) = (Bound::on_loopback().unwrap(), bound());
    let (crowded, address) = (bound_by_all.address(), own.local_addr().unwrap());
    let mut crowd = Vec::new();
    for _ in 0..200 {
        let mut client = raw_connect(crowded).await;
        client.write_all(&connect_to("b.test")).await.unwrap();
        crowd.push(client);
    }
    let more = tokio::spawn(async move {
        loop {
            drop(raw_connect(crowded).await);
        }
    });
    let tested = self_test(own, address, &context).await.unwrap();
    let listeners =
        Listeners { http: Endpoint::Tcp(bound_by_all), socks: None, transparent: Vec::new() };
    let _workers = Workers::start(tested, listeners, NonZero::<usize>::MIN, &context).unwrap();
    // Those who waited are served from here on.
    assert!(read_answer(&mut crowd[0]).await.phrase.starts_with("exeat: "));
    more.abort();
    context.drain.cancel();
    context.abort.cancel();
    context.tasks.close();
    context.tasks.wait().await;
}

/// Whoever finds the test's own socket is neither served nor taken for the test.
#[tokio::test]
async fn only_the_test_is_served_where_the_test_listens() {
    let context = context("");
    let own = bound();
    let address = own.local_addr().unwrap();
    let mut stranger = raw_connect(address).await;
    stranger.write_all(&connect_to("b.test")).await.unwrap();
    self_test(own, address, &context).await.unwrap();
    let mut answer = Vec::new();
    stranger.read_to_end(&mut answer).await.ok();
    assert_eq!(answer, b"");
    context.drain.cancel();
    context.tasks.close();
    context.tasks.wait().await;
}

/// What the self-test says if the listener at that address is another one.
async fn asked_at(address: SocketAddr) -> String {
    let context = context("");
    let error = self_test(bound(), address, &context).await.unwrap_err();
    assert!(context.tasks.is_empty(), "nobody is served");
    error.to_string()
}

#[tokio::test]
async fn any_other_answer_stops_the_start() {
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\nproxy-status: exeat; error=x\r\n\r\n{\"reason\":\"not_allowed\"}",
        "HTTP/1.1 403 exeat: x\r\nproxy-status: exeat; error=x\r\n\r\n{\"reason\":\"denied\"}",
        "HTTP/1.1 502 exeat: x\r\nproxy-status: exeat; error=x\r\n\r\n{\"reason\":\"not_allowed\"}",
    ] {
        let other = bound();
        let address = other.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = other.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let said = asked_at(address).await;
        let first = answer.lines().next().unwrap();
        let wanted = format!(
            "self-test: the policy refuses exeat-self-test.invalid:443 (not_allowed), but the \
             listener answered: {first}"
        );
        assert_eq!(said, wanted);
    }
}

#[tokio::test]
async fn no_answer_stops_the_start() {
    // Bound, but nobody listens.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let said = asked_at(address).await;
    assert!(said.contains("could not be asked"), "{said}");
}
