//! Every seed of every fuzz target, and whatever broke one before, on a stable compiler.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test may fail; the targets are a crate of their own when they are fuzzed"
)]

use std::{fs, path::Path};

#[path = "fuzz/src/lib.rs"]
mod targets;

/// A panic names its seed.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        if let Err(panic) = std::panic::catch_unwind(|| check(&input)) {
            eprintln!("in {}", path.display());
            std::panic::resume_unwind(panic);
        }
        count += 1;
    }
    assert!(count > 20, "only {count} seeds");
}

#[test]
fn authority() {
    replay("authority", targets::authority);
}

#[test]
fn client_hello() {
    replay("client_hello", targets::client_hello);
}

#[cfg(target_os = "linux")]
#[test]
fn connection() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static REACHED: AtomicUsize = AtomicUsize::new(0);
    replay("connection", |input| {
        REACHED.fetch_add(targets::connection(input), Ordering::Relaxed);
    });
    let reached = REACHED.load(Ordering::Relaxed);
    assert!(reached > 20, "origins got only {reached} connections");
}

#[test]
fn decide() {
    replay("decide", targets::decide);
}

#[test]
fn document() {
    replay("document", targets::document);
}

#[test]
fn http_head() {
    replay("http_head", targets::http_head);
}

#[test]
fn pattern() {
    replay("pattern", targets::pattern);
}

#[test]
fn socks5() {
    replay("socks5", targets::socks5);
}
