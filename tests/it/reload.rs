//! Reload: settled changes are taken, broken ones change nothing, open connections are judged again.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Origin, Proxy, ProxyBuilder, RawOrigin, connect_tunnel, eventually, exchange, get, raw_connect,
    read_answer, signal,
};

async fn generation(proxy: &Proxy) -> u64 {
    proxy.health().await["policy"]["generation"].as_u64().unwrap()
}

/// Waits for a policy of at least that generation.
async fn generation_is(proxy: &Proxy, wanted: u64) {
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while generation(proxy).await < wanted {
        assert!(tokio::time::Instant::now() < deadline, "no reload:\n{}", proxy.log());
    }
}

#[tokio::test]
async fn a_renamed_file_is_noticed_and_open_tunnels_are_closed() {
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\", \"b.test\"]")
        .local("a.test")
        .local("b.test")
        .start()
        .await;
    let mut kept = connect_tunnel(proxy.address, &format!("a.test:{port}")).await;
    let mut kept_server = origin.accept().await;
    let mut lost = connect_tunnel(proxy.address, &format!("b.test:{port}")).await;
    let _lost_server = origin.accept().await;

    proxy.replace_policy("allowed_domains = [\"a.test\"]");
    let mut rest = Vec::new();
    lost.read_to_end(&mut rest).await.unwrap();
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "policy_changed");
    assert_eq!(ends[0]["server.address"], "b.test");
    kept.write_all(b"alive").await.unwrap();
    let mut alive = [0; 5];
    kept_server.read_exact(&mut alive).await.unwrap();
    assert_eq!(exchange(proxy.address, &get("b.test", port)).await.status, 403);
    assert_eq!(generation(&proxy).await, 2);
}

#[tokio::test]
async fn pooled_connections_are_judged_on_their_next_use() {
    let origin = Origin::start().await;
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]").local("a.test").start().await;
    let mut client = raw_connect(proxy.address).await;
    client.write_all(&get("a.test", origin.port())).await.unwrap();
    assert_eq!(read_answer(&mut client).await.status, 200);
    // The name stays allowed, its address does not.
    proxy.replace_policy("allowed_domains = [\"a.test\"]\ndenied_domains = [\"127.0.0.1\"]");
    proxy.signal("HUP");
    generation_is(&proxy, 2).await;
    client.write_all(&get("a.test", origin.port())).await.unwrap();
    assert_eq!(read_answer(&mut client).await.status, 403);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_reported() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]").local("a.test").start().await;
    proxy.replace_file("[experimental_network]\ndeny_domains = [\"a.test\"]\nenabled = 1\n");
    proxy.signal("HUP");
    eventually("the report", || {
        let log = proxy.log();
        let both = log.contains("requirements.toml:2:1") && log.contains("requirements.toml:3:11");
        (both && log.contains("stays in force")).then_some(())
    })
    .await;
    let health = proxy.health().await;
    assert_eq!(health["policy"]["generation"], 1);
    assert_eq!(health["policy"]["reload_failures"], 1);
    // So is a file that has gone.
    fs::remove_file(proxy.path("requirements.toml")).unwrap();
    proxy.signal("HUP");
    eventually("the second report", || proxy.log().contains("cannot read policy").then_some(()))
        .await;
    // And a good one is taken again.
    proxy.replace_policy("allowed_domains = [\"b.test\"]");
    generation_is(&proxy, 2).await;
}

#[tokio::test]
async fn a_half_written_file_is_not_taken() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]").start().await;
    // Valid TOML at every moment, but never the same twice: nothing has settled. Should the
    // machine keep the writer from writing for as long as a file needs to settle, the file has
    // settled, and the test says nothing; that is why the longest gap is measured.
    let (path, stop) = (proxy.path("requirements.toml"), Arc::new(AtomicBool::new(false)));
    let stopping = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        let (mut longest, mut last) = (Duration::ZERO, SystemTime::now());
        for count in 0.. {
            if stopping.load(Ordering::Relaxed) {
                break;
            }
            let rules = format!("allowed_domains = [\"x{count}.test\"]");
            fs::write(&path, format!("[experimental_network]\nenabled = true\n{rules}\n")).unwrap();
            longest = longest.max(last.elapsed().unwrap_or_default());
            last = SystemTime::now();
            std::thread::yield_now();
        }
        longest
    });
    // Not to synchronise: the time in which nothing must happen.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let taken = generation(&proxy).await != 1;
    stop.store(true, Ordering::Relaxed);
    let longest = writer.join().unwrap();
    assert!(!taken || longest > Duration::from_millis(150), "taken, though written to all along");
    generation_is(&proxy, 2).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_swapped_symbolic_link_is_noticed() {
    // As Kubernetes mounts a ConfigMap: file -> ..data/file, ..data -> a directory that changes.
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]").start().await;
    let mount = |generation: u32, rules: &str| {
        let directory = proxy.path(&format!("..{generation}"));
        fs::create_dir(&directory).unwrap();
        let text = format!("[experimental_network]\nenabled = true\n{rules}\n");
        fs::write(directory.join("requirements.toml"), text).unwrap();
        let link = proxy.path("..data.new");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        fs::rename(&link, proxy.path("..data")).unwrap();
    };
    mount(1, "allowed_domains = [\"b.test\"]");
    fs::remove_file(proxy.path("requirements.toml")).unwrap();
    std::os::unix::fs::symlink("..data/requirements.toml", proxy.path("requirements.toml"))
        .unwrap();
    generation_is(&proxy, 2).await;
    mount(2, "allowed_domains = [\"c.test\"]");
    generation_is(&proxy, 3).await;
}

#[tokio::test]
async fn sigterm_drains() {
    let origin = RawOrigin::bind().await;
    let mut proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]")
        .local("a.test")
        .flag("--drain=20s")
        .start()
        .await;
    let mut client = connect_tunnel(proxy.address, &format!("a.test:{}", origin.port())).await;
    let mut server = origin.accept().await;
    let idle = raw_connect(proxy.address).await;
    proxy.signal("TERM");
    eventually("the drain", || proxy.log().contains("draining").then_some(())).await;
    // Nothing new is accepted, but the tunnel goes on.
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    let mut words = String::new();
    server.read_to_string(&mut words).await.unwrap();
    assert_eq!(words, "last words");
    drop((client, server, idle));
    assert_eq!(proxy.ended().await.code(), Some(0));
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "complete");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_ended() {
    let origin = RawOrigin::bind().await;
    let mut proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]")
        .local("a.test")
        .flag("--drain=100ms")
        .start()
        .await;
    let mut client = connect_tunnel(proxy.address, &format!("a.test:{}", origin.port())).await;
    let _server = origin.accept().await;
    proxy.signal("INT");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(proxy.ended().await.code(), Some(0));
    let ends = proxy.audit(1, |record| record["event.name"] == "exeat.end").await;
    assert_eq!(ends[0]["exeat.ending"], "shutdown");
}

/// 50 reloads a second for 20 s under load: renames and SIGHUP, alternating between two policies,
/// with a broken file now and then. `both.test` is allowed by both, `none.test` by neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_reloads_a_second_under_load() {
    let origin = Origin::start().await;
    let port = origin.port();
    let first = "allowed_domains = [\"both.test\", \"one.test\"]\ndenied_domains = [\"none.test\"]";
    let second = "allowed_domains = [\"both.test\", \"two.test\"]";
    let proxy = Arc::new(
        ProxyBuilder::new(first)
            .local("both.test")
            .local("one.test")
            .local("two.test")
            .local("none.test")
            .settings("[audit]\nqueue = 100000")
            .start()
            .await,
    );
    let stop = Arc::new(AtomicBool::new(false));
    let counts: Arc<[AtomicU64; 3]> = Arc::default();
    let mut load = Vec::new();
    for worker in 0..8 {
        let (stop, counts, address) = (Arc::clone(&stop), Arc::clone(&counts), proxy.address);
        load.push(tokio::spawn(async move {
            let mut client = raw_connect(address).await;
            while !stop.load(Ordering::Relaxed) {
                client.write_all(&get("both.test", port)).await.unwrap();
                let answer = read_answer(&mut client).await;
                assert_eq!(answer.status, 200, "both policies allow it: {}", answer.phrase);
                counts[0].fetch_add(1, Ordering::Relaxed);
                client.write_all(&get("none.test", port)).await.unwrap();
                assert_eq!(read_answer(&mut client).await.status, 403, "both policies refuse it");
                counts[1].fetch_add(1, Ordering::Relaxed);
                if worker == 0 {
                    let tunnel = connect_tunnel(address, &format!("both.test:{port}")).await;
                    drop(tunnel);
                    counts[2].fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    let changing = {
        let proxy = Arc::clone(&proxy);
        let (first, second) = (first.to_owned(), second.to_owned());
        tokio::task::spawn_blocking(move || {
            for round in 0..1000_u32 {
                match round % 10 {
                    5 => proxy.replace_file("[experimental_network]\nenabled = \n"),
                    even if even % 2 == 0 => proxy.replace_policy(&second),
                    _ => proxy.replace_policy(&first),
                }
                signal(proxy.pid(), "HUP");
                std::thread::sleep(Duration::from_millis(19));
            }
        })
    };
    changing.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    for worker in load {
        worker.await.unwrap();
    }
    let health = proxy.health().await;
    let [allowed, refused, tunnels] = [0, 1, 2].map(|n| counts[n].load(Ordering::Relaxed));
    let (reloads, failures) =
        (health["policy"]["reloads"].as_u64(), health["policy"]["reload_failures"].as_u64());
    println!(
        "{allowed} allowed, {refused} refused, {tunnels} tunnels; {reloads:?} reloads, \
         {failures:?} broken files reported; audit dropped {}",
        health["audit"]["dropped"]
    );
    assert!(reloads.unwrap() > 300, "{health}");
    assert!(failures.unwrap() > 30, "{health}");
    assert!(allowed > 1000 && refused > 1000 && tunnels > 100);
    assert!(
        !origin
            .requests()
            .iter()
            .any(|request| request["fields"].to_string().contains("none.test"))
    );
}
