//! Clients as people run them: curl, git, OpenSSL, pip, npm, Python. Allowed and refused, plain
//! and TLS, by HTTP and by SOCKS5.
//!
//! A client that is not installed is skipped by name (`cargo test -- --nocapture` shows it);
//! `EXEAT_TEST_CLIENTS=required` makes that a failure. Every client verifies certificates, and is
//! told of no way out but the proxy.

#[cfg(target_os = "linux")]
mod composed;
mod curl;
mod git;
#[cfg(target_os = "linux")]
mod jailed;
#[cfg(target_os = "linux")]
mod jailed_attacks;
#[cfg(target_os = "linux")]
mod jailed_clients;
#[cfg(unix)]
mod launched;
mod openssl;
mod packages;
#[cfg(target_os = "linux")]
mod published;
mod python;
#[cfg(target_os = "linux")]
mod servers;
mod socks;
#[cfg(unix)]
mod suggested;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Origin, Proxy, ProxyBuilder, TlsOrigin, skip, skip_optional};

const RULES: &str = "allowed_domains = [\"ok.test\"]\ndenied_domains = [\"evil.test\"]";
/// Why `no.test` is refused.
const NOT_ALLOWED: &str = "exeat: no.test not in allowed_domains, requirements.toml:3";
/// Why `evil.test` is refused.
const DENIED: &str = "exeat: evil.test denied by evil.test, requirements.toml:4";
/// When a client is killed. Generous: each has a shorter limit of its own.
const LIMIT: Duration = Duration::from_secs(60);

/// What every client finds: a proxy, and behind it a plain and a TLS origin, both of which answer
/// to the allowed name and to the refused ones.
#[derive(Debug)]
struct Stage {
    proxy: Proxy,
    plain: Origin,
    tls: TlsOrigin,
    home: TempDir,
}

/// What a client left behind.
#[derive(Debug)]
struct Finished {
    success: bool,
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Stage {
    async fn set() -> Self {
        Self::set_with(|builder| builder).await
    }

    /// With more settings or flags of the proxy.
    async fn set_with(with: impl FnOnce(ProxyBuilder) -> ProxyBuilder) -> Self {
        let names = ["ok.test", "no.test", "evil.test"];
        let builder = names.iter().fold(ProxyBuilder::new(RULES), |builder, name| {
            // Nothing but the rules keeps a client from any of them.
            builder.local(name)
        });
        let stage = Self {
            proxy: with(builder).start().await,
            plain: Origin::start().await,
            tls: TlsOrigin::start(&names).await,
            home: tempfile::tempdir().unwrap(),
        };
        fs::write(stage.authority(), &stage.tls.authority_pem).unwrap();
        stage
    }

    /// A place below the clients' home.
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The file with the certificate of the TLS origin's authority.
    fn authority(&self) -> PathBuf {
        self.path("authority.pem")
    }

    fn http(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.plain.port())
    }

    fn https(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.tls.origin.port())
    }

    /// A client that is told of no proxy.
    fn bare(&self, program: &str) -> Command {
        bare(program, self.home.path())
    }

    /// A client that is told of the proxy as users do: by the environment.
    fn command(&self, program: &str) -> Command {
        let mut command = self.bare(program);
        for name in ["http_proxy", "https_proxy", "HTTPS_PROXY"] {
            command.env(name, self.proxy.url());
        }
        command
    }

    fn curl(&self) -> Command {
        let mut command = self.bare("curl");
        command.args(["--silent", "--show-error", "--max-time", "30", "--proxy"]);
        command.arg(self.proxy.url()).arg("--cacert").arg(self.authority());
        command
    }

    fn git(&self) -> Command {
        let mut command = self.command("git");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        command.args(["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=30", "-c"]);
        command.arg(format!("http.sslCAInfo={}", self.authority().display()));
        command
    }

    fn pip(&self) -> Command {
        let mut command = self.command("python3");
        command.args(["-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input"]);
        command.args(["--no-cache-dir", "--retries", "0", "--timeout", "30", "--cert"]);
        command.arg(self.authority());
        command
    }

    /// Caches are as private as their name: npm installs what it has seen without asking for it.
    fn npm(&self, cache: &str) -> Command {
        let mut command = self.bare("npm");
        command
            .env("npm_config_proxy", self.proxy.url())
            .env("npm_config_https_proxy", self.proxy.url())
            .env("npm_config_cafile", self.authority())
            .env("npm_config_cache", self.path(cache))
            .env("npm_config_update_notifier", "false")
            .args(["--fetch-retries=0", "--fetch-timeout=30000", "--no-audit", "--no-fund"]);
        command
    }

    fn python(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = self.command("python3");
        command.args(["-c", script]).arg(self.authority()).args(arguments);
        command
    }

    /// Neither origin was even dialled.
    fn assert_untouched(&self) {
        for origin in [&self.plain, &self.tls.origin] {
            assert_eq!(origin.requests(), Vec::<Value>::new());
            assert_eq!(origin.connections(), 0);
        }
    }

    /// Waits for the audit to say that a host was refused.
    async fn refused(&self, host: &str, protocol: &str) {
        self.proxy
            .audit(1, |record| {
                record["event.name"] == "exeat.decision"
                    && record["network.policy.decision"] == "deny"
                    && record["server.address"] == host
                    && record["network.transport.protocol"] == protocol
            })
            .await;
    }
}

impl Finished {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    #[track_caller]
    fn succeeded(self) -> Self {
        assert!(self.success, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    #[track_caller]
    fn failed(self) -> Self {
        assert!(!self.success, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    /// Both streams, for clients that are not particular about which they use.
    fn said(&self) -> String {
        format!("{}\n{}", self.text(), self.stderr)
    }
}

fn bare(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        .env("TMPDIR", home)
        .current_dir(home);
    command
}

/// Runs a client to its end, off the runtime the origins live on.
async fn run(mut command: Command) -> Finished {
    let work = move || {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = drain(child.stdout.take().unwrap());
        let stderr = drain(child.stderr.take().unwrap());
        let (Ok(stdout), Ok(stderr)) = (stdout.recv_timeout(LIMIT), stderr.recv_timeout(LIMIT))
        else {
            child.kill().ok();
            child.wait().ok();
            panic!("{command:?} did not end in time");
        };
        let status = child.wait().unwrap();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Finished { success: status.success(), code: status.code(), stdout, stderr }
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Reads to the end beside the caller.
fn drain(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok();
        sender.send(bytes).ok();
    });
    receiver
}

/// Whether a client is there; if not, says so, or fails when all have to be.
async fn installed(client: &str, probe: &[&str]) -> bool {
    let there = works(probe).await;
    if !there {
        skip(&format!("{client} is not installed"));
    }
    there
}

async fn works(probe: &[&str]) -> bool {
    let home = tempfile::tempdir().unwrap();
    let mut command = bare(probe[0], home.path());
    command.args(&probe[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let work = move || command.status().is_ok_and(|status| status.success());
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn curl_installed() -> bool {
    installed("curl", &["curl", "--version"]).await
}

async fn git_installed() -> bool {
    installed("git", &["git", "--version"]).await
}

async fn pip_installed() -> bool {
    installed("pip", &["python3", "-m", "pip", "--version"]).await
}

async fn npm_installed() -> bool {
    installed("npm", &["npm", "--version"]).await
}

async fn python_installed() -> bool {
    installed("python3", &["python3", "--version"]).await
}

/// A library, not a client: skipped where it cannot be imported, even if all clients have to be
/// there.
async fn requests_installed() -> bool {
    let there = works(&["python3", "-c", "import requests"]).await;
    if !there {
        skip_optional("Python requests is not installed");
    }
    there
}

/// What an origin was asked, without fields and bodies.
fn asked(origin: &Origin) -> Vec<String> {
    let line = |request: &Value| {
        format!("{} {}", request["method"].as_str().unwrap(), request["target"].as_str().unwrap())
    };
    origin.requests().iter().map(line).collect()
}

/// The value of a field of a request an origin got.
fn field<'a>(request: &'a Value, name: &str) -> Option<&'a str> {
    let fields = request["fields"].as_array().unwrap();
    fields.iter().find(|field| field[0] == name).and_then(|field| field[1].as_str())
}

/// Bytes in which a lost, doubled or displaced piece shows.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}
