//! A proxy as users run it: the binary, its files, its signals.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tempfile::TempDir;

use super::eventually;

/// What a proxy is started with.
#[derive(Debug, Default)]
pub(crate) struct ProxyBuilder {
    policy: String,
    private: Vec<String>,
    hosts: Vec<(String, String)>,
    servers: Option<SocketAddr>,
    extra: String,
    flags: Vec<String>,
    descriptors: Option<String>,
    /// Where to listen, if not at a free port of loopback.
    listen: Option<String>,
    /// Whose process it is, if not ours.
    user: Option<u32>,
    variables: Vec<(String, String)>,
}

/// A running proxy. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    /// Port 0 if it listens at a path.
    pub(crate) address: SocketAddr,
    pub(crate) directory: TempDir,
    log: Arc<Mutex<String>>,
}

impl ProxyBuilder {
    /// The body of `[experimental_network]`; `enabled = true` is added.
    pub(crate) fn new(rules: &str) -> Self {
        Self {
            policy: format!("[experimental_network]\nenabled = true\n{rules}\n"),
            ..Self::default()
        }
    }

    /// A whole policy file.
    pub(crate) fn whole(policy: &str) -> Self {
        Self { policy: policy.to_owned(), ..Self::default() }
    }

    /// A name that resolves to loopback and may be dialled there.
    pub(crate) fn local(mut self, name: &str) -> Self {
        self.private.push(name.to_owned());
        self.host(name, "127.0.0.1")
    }

    /// A static answer.
    pub(crate) fn host(mut self, name: &str, address: &str) -> Self {
        self.hosts.push((name.to_owned(), address.to_owned()));
        self
    }

    /// A pattern or range that may be private.
    pub(crate) fn private(mut self, pattern: &str) -> Self {
        self.private.push(pattern.to_owned());
        self
    }

    /// The DNS server to ask.
    pub(crate) fn dns(mut self, server: SocketAddr) -> Self {
        self.servers = Some(server);
        self
    }

    /// More of exeat.toml.
    pub(crate) fn settings(mut self, text: &str) -> Self {
        self.extra.push_str(text);
        self.extra.push('\n');
        self
    }

    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Listens at a path.
    pub(crate) fn socket(mut self, path: &Path) -> Self {
        self.listen = Some(format!("unix:{}", path.display()));
        self
    }

    /// Listens at every address, not only on loopback.
    pub(crate) fn everywhere(mut self) -> Self {
        self.listen = Some("0.0.0.0:0".into());
        self.flag("--allow-non-loopback")
    }

    /// Where it listens, if not at a free port.
    pub(crate) fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address.to_string());
        self
    }

    /// A variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it as another user, to whom its files belong; for root.
    pub(crate) fn user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// How many descriptors the process may ever have.
    pub(crate) fn descriptors(mut self, count: u32) -> Self {
        self.descriptors = Some(format!("-n {count}"));
        self
    }

    /// How many it has at first.
    pub(crate) fn soft_descriptors(mut self, count: u32) -> Self {
        self.descriptors = Some(format!("-Sn {count}"));
        self
    }

    /// Its policy and settings, in a directory of their own.
    pub(crate) fn files(&self) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("requirements.toml"), &self.policy).unwrap();
        fs::write(directory.path().join("exeat.toml"), self.settings_text()).unwrap();
        directory
    }

    pub(crate) async fn start(self) -> Proxy {
        self.try_start().await.unwrap_or_else(|(status, log)| panic!("ended with {status}:\n{log}"))
    }

    /// Starts it, or says with which status it ended, and its words.
    pub(crate) async fn try_start(self) -> Result<Proxy, (ExitStatus, String)> {
        let directory = self.files();
        let path = directory.path();
        let mut command = command(self.descriptors.as_deref());
        #[cfg(unix)]
        if let Some(user) = self.user {
            use std::os::unix::{fs::chown, process::CommandExt as _};
            for file in ["", "requirements.toml", "exeat.toml"] {
                chown(path.join(file), Some(user), None).unwrap();
            }
            command.uid(user);
        }
        let mut child = command
            .arg("serve")
            .arg("--listen")
            .arg(self.listen.as_deref().unwrap_or("127.0.0.1:0"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .arg("--requirements")
            .arg(path.join("requirements.toml"))
            .arg("--settings")
            .arg(path.join("exeat.toml"))
            .args(self.all_flags(path))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let sink = Arc::clone(&log);
        let reading = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = eventually("the ready line", || {
            // All of it, if it has ended.
            let is_read = reading.is_finished();
            let log = log.lock().unwrap();
            if let (Some(status), true) = (child.try_wait().unwrap(), is_read) {
                return Some(Err((status, log.clone())));
            }
            if log.contains("listening on http at unix:") {
                return Some(Ok(SocketAddr::from(([127, 0, 0, 1], 0))));
            }
            let (_, rest) = log.split_once("listening on http://")?;
            rest.split([';', ' ']).next().unwrap().parse().ok().map(Ok)
        })
        .await?;
        Ok(Proxy { child, address, directory, log })
    }

    /// The test's own flags, and an audit file unless they name another.
    fn all_flags(&self, directory: &Path) -> Vec<String> {
        let mut flags = self.flags.clone();
        if !flags.iter().any(|flag| flag.starts_with("--audit")) {
            flags.push(format!("--audit={}", directory.join("audit.jsonl").display()));
        }
        flags
    }

    /// Its exeat.toml.
    pub(crate) fn settings_text(&self) -> String {
        let mut text = String::new();
        writeln!(text, "[egress]\nprivate = {:?}", self.private).unwrap();
        writeln!(text, "[dns]").unwrap();
        match self.servers {
            Some(server) => writeln!(text, "servers = [\"{server}\"]").unwrap(),
            None => writeln!(text, "servers = []").unwrap(),
        }
        writeln!(text, "[dns.hosts]").unwrap();
        for (name, address) in &self.hosts {
            writeln!(text, "{name:?} = [{address:?}]").unwrap();
        }
        text += &self.extra;
        // The whole suite can be run with every byte copied.
        if !self.extra.contains("[tunnels]") && std::env::var_os("EXEAT_TEST_COPY").is_some() {
            text += "\n[tunnels]\nsplice = false\n";
        }
        text
    }
}

impl Proxy {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens for SOCKS5; it must have been told to.
    pub(crate) fn socks(&self) -> SocketAddr {
        let log = self.log();
        let (_, rest) = log.split_once(" and socks5h://").unwrap();
        rest.split([';', ' ']).next().unwrap().parse().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Replaces the policy as administrators should: a new file, renamed over the old one.
    pub(crate) fn replace_policy(&self, rules: &str) {
        self.replace_file(&format!("[experimental_network]\nenabled = true\n{rules}\n"));
    }

    pub(crate) fn replace_file(&self, text: &str) {
        let new = self.path("requirements.toml.new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.path("requirements.toml")).unwrap();
    }

    /// Waits for the audit to hold at least that many records that match.
    pub(crate) async fn audit(
        &self,
        count: usize,
        matching: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let path = self.path("audit.jsonl");
        eventually("the audit records", || {
            let found: Vec<Value> =
                records(&path).into_iter().filter(|record| matching(record)).collect();
            (found.len() >= count).then_some(found)
        })
        .await
    }

    /// What the health endpoint says.
    pub(crate) async fn health(&self) -> Value {
        let answer = super::exchange(
            self.address,
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the end of the process.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end of the proxy", || child.try_wait().unwrap()).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        // Nothing that any test does may be what a proxy never does.
        let confined = !self.log().contains("a system call that a proxy never makes");
        assert!(confined || std::thread::panicking(), "{}", self.log());
    }
}

/// Sends a signal by name to a process of ours.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// The program under test, without the environment that could change what it does, and with limits
/// that `ulimit` sets.
fn command(descriptors: Option<&str>) -> Command {
    let program = env!("CARGO_BIN_EXE_exeat");
    let mut command = match descriptors {
        None => Command::new(program),
        Some(limit) => {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\""), program]);
            command
        }
    };
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("EXEAT_") || text.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command
}

/// Whole lines only: the last may still be under way.
fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    whole.lines().map(|line| serde_json::from_str(line).expect("a whole JSON line")).collect()
}
