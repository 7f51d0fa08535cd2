//! The self-test at the start: seen in the log, by nobody else, and strict.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
};

use exeat::{
    app::random_seed,
    dns::Resolver,
    observe::{Audit, Counters},
    policy::{Egress, Outcome, Policy, Review, Source},
    proxy::{Bound, Context, Places, ProbeSlot, listen_tested},
    settings::{Environment, Flags, Settings, SettingsFile},
    upstream::Pool,
};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{ProxyBuilder, connect_to, exchange, read_head};

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
fn context() -> Arc<Context> {
    let settings = SettingsFile::parse("[dns]\nservers = []\n").unwrap();
    let settings = Settings::resolve(Flags::default(), Environment::default(), settings);
    let source = Arc::new(Source::file("test.toml"));
    let text = b"[experimental_network]\nenabled = true\n";
    let Outcome::Ruleset(rules) = Review::of(text, &source, random_seed()).outcome else {
        panic!("the policy is sound");
    };
    let counters = Arc::new(Counters::default());
    let (_, policy) = watch::channel(Arc::new(Policy::new(*rules, Egress::default(), 1)));
    Arc::new(Context {
        policy,
        resolver: Resolver::new(&settings.dns, settings.timeouts.dns).unwrap(),
        pool: Pool::new(1, 1, settings.timeouts.idle_origin),
        audit: Audit::off(Arc::clone(&counters)),
        counters,
        clients: Vec::new(),
        places: Places::new(&settings.limits),
        limits: settings.limits,
        timeouts: settings.timeouts,
        tls: Arc::new(settings.tls),
        tasks: TaskTracker::new(),
        drain: CancellationToken::new(),
        abort: CancellationToken::new(),
        requests: AtomicU64::new(0),
        probe: ProbeSlot::default(),
    })
}

fn bound() -> TcpListener {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    Bound::new(free).unwrap().into_listener().unwrap()
}

/// A socket for both families sees the self-test, which comes by IPv4, at a mapped address.
#[tokio::test]
async fn every_address_of_both_families_is_tested() {
    for every in ["[::]:0", "0.0.0.0:0"] {
        let bound = Bound::new(every.parse().unwrap()).and_then(Bound::into_listener);
        let listener = match bound {
            Ok(listener) => listener,
            Err(error) if every.starts_with('[') => {
                println!("skipped: no IPv6 here: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let address = listener.local_addr().unwrap();
        let context = context();
        listen_tested(listener, address, &context).await.unwrap();
        context.drain.cancel();
        context.tasks.close();
        context.tasks.wait().await;
    }
}

/// What the self-test says if the listener at that address is another one.
async fn asked_at(address: SocketAddr) -> String {
    let context = context();
    let error = listen_tested(bound(), address, &context).await.unwrap_err();
    assert!(context.drain.is_cancelled(), "nothing more is accepted");
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
