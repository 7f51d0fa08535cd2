//! The system's requirements.toml: its denies apply whatever policy was chosen.
//!
//! In this process rather than in the program, because the program looks at one fixed place only.

use std::{fs, num::NonZero, path::Path, sync::Arc};

use exeat::{
    app::Opened,
    settings::{Environment, Flags, Settings, SettingsFile},
};
use tokio::sync::{Notify, oneshot};

use crate::support::{PATIENCE, connect_to, exchange};

/// A chosen policy that allows everything under `test`, and no DNS server: what is let through is
/// answered 502.
fn settings(directory: &Path) -> Settings {
    let chosen = directory.join("chosen.toml");
    fs::write(&chosen, "[experimental_network]\nenabled = true\nallowed_domains = [\"*.test\"]\n")
        .unwrap();
    let flags = Flags {
        requirements: Some(chosen),
        listen: "127.0.0.1:0".parse().ok(),
        audit: Some("off".into()),
        ..Flags::default()
    };
    let file = SettingsFile::parse("[dns]\nservers = []\n").unwrap();
    Settings::resolve(flags, Environment::default(), file)
}

fn denying(host: &str) -> String {
    format!("[experimental_network]\nenabled = true\ndenied_domains = [\"{host}\"]\n")
}

#[tokio::test]
async fn its_denies_apply_and_follow_its_changes() {
    let directory = tempfile::tempdir().unwrap();
    let system = directory.path().join("requirements.toml");
    fs::write(&system, denying("first.test")).unwrap();
    let app = Opened::new(settings(directory.path()), &system)
        .unwrap()
        .start(NonZero::<usize>::MIN)
        .await
        .unwrap();
    let address = app.place().address().unwrap();
    let summary = app.policy_summary();
    assert!(summary.contains("chosen.toml") && summary.contains("1 deny rules"), "{summary}");
    assert!(summary.contains(system.to_str().unwrap()), "{summary}");
    let (stop, stopped) = oneshot::channel::<()>();
    let hangup = Arc::new(Notify::new());
    let shutdown = async {
        stopped.await.ok();
    };
    let running = tokio::spawn(app.run(shutdown, Arc::clone(&hangup)));
    let denied = exchange(address, &connect_to("first.test")).await;
    assert_eq!(denied.status, 403);
    assert_eq!(denied.phrase, "exeat: first.test denied by first.test, requirements.toml:3");

    assert_eq!(exchange(address, &connect_to("second.test")).await.status, 502);
    fs::write(&system, denying("second.test")).unwrap();
    hangup.notify_one();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !exchange(address, &connect_to("second.test")).await.phrase.contains("denied by") {
        assert!(tokio::time::Instant::now() < deadline, "the new deny never came into force");
    }
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn broken_it_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let system = directory.path().join("requirements.toml");
    fs::write(&system, "[experimental_network]\ndeny_domains = [\"x.test\"]\n").unwrap();
    let error = Opened::new(settings(directory.path()), &system).err().unwrap().to_string();
    assert!(error.contains(system.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn it_applies_as_soon_as_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let system = directory.path().join("requirements.toml");
    let app = Opened::new(settings(directory.path()), &system)
        .unwrap()
        .start(NonZero::<usize>::MIN)
        .await
        .unwrap();
    let address = app.place().address().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let hangup = Arc::new(Notify::new());
    let shutdown = async {
        stopped.await.ok();
    };
    let running = tokio::spawn(app.run(shutdown, Arc::clone(&hangup)));
    assert_eq!(exchange(address, &connect_to("first.test")).await.status, 502);
    fs::write(&system, denying("first.test")).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while exchange(address, &connect_to("first.test")).await.status != 403 {
        assert!(tokio::time::Instant::now() < deadline, "the deny never came into force");
    }
    stop.send(()).unwrap();
    running.await.unwrap();
}
