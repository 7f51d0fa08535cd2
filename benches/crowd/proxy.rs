//! The proxy under test: the binary, as users run it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::client::connect;

/// A running proxy. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    child: Child,
    _directory: TempDir,
}

const POLICY: &str = "[experimental_network]\nenabled = true\nallowed_domains = [\"load.test\"]\n";

const SETTINGS: &str = "[egress]\nprivate = [\"load.test\"]\n[dns]\nservers = []\n\
                        [dns.hosts]\n\"load.test\" = [\"127.0.0.1\"]\n";

impl Proxy {
    /// Starts one; `settings` are added to those that it needs.
    #[expect(clippy::unused_async, reason = "it is started where tasks run")]
    pub(crate) async fn start(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("requirements.toml"), POLICY).unwrap();
        fs::write(path("exeat.toml"), format!("{SETTINGS}{settings}")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_exeat"))
            .args(["serve", "--listen=127.0.0.1:0", "--audit=off", "--requirements"])
            .arg(path("requirements.toml"))
            .arg("--settings")
            .arg(path("exeat.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening on http://")?;
            rest.split(';').next().unwrap().parse().ok()
        });
        let address = ready.unwrap();
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { address, child, _directory: directory }
    }

    /// A counter of `GET /healthz`.
    pub(crate) async fn counted(&self, section: &str, key: &str) -> u64 {
        let mut stream = connect(self.address, 0).await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let health: serde_json::Value = serde_json::from_str(body).unwrap();
        health[section][key].as_u64().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
