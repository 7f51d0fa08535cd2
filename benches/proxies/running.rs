//! A proxy that runs: started with files of its own, ended with everything that it started.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::{net::TcpSocket, time::sleep};

use super::{description::Fill, installed::Installed, names, process::Tree, world::World};

/// A child that leads a process group. Dropped: all of the group is killed.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
}

/// A proxy.
#[derive(Debug)]
pub(crate) struct Running {
    group: Group,
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    directory: TempDir,
}

/// Until it accepts; an interpreter on a busy machine takes its time.
const READY_WITHIN: Duration = Duration::from_secs(30);

impl Group {
    /// Starts it with a pipe as its standard input, which our own children watch: should this
    /// process be killed, they end.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.stdin(Stdio::piped()).process_group(0).spawn()?;
        Ok(Self { child })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let group = Pid::from_child(&self.child);
        Ok(kill_process_group(group, signal)?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // An ended child that nobody waited for keeps its number: this hits no stranger.
        self.signal(Signal::KILL).ok();
        self.child.wait().ok();
    }
}

impl Running {
    /// Starts a proxy with its policy, and waits until it accepts.
    pub(crate) async fn start(
        installed: &Installed,
        rules: u32,
        world: &World,
    ) -> io::Result<Self> {
        let description = &installed.description;
        let directory = tempfile::tempdir()?;
        // Some servers give up their user, and then read.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let address = free_port()?;
        let fill = Fill {
            dir: directory.path().to_str().ok_or(io::ErrorKind::InvalidFilename)?,
            port: address.port(),
            dns: world.dns,
            host: description.host(),
        };
        let names = names::around(description.host(), description.rules.unwrap_or(rules));
        for file in &description.files {
            let path = directory.path().join(&file.name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, file.fill(&fill, &names))?;
        }
        let (program, leading) = installed.command.split_first().ok_or(io::ErrorKind::NotFound)?;
        let said = directory.path().join("said");
        let mut command = Command::new(program);
        command
            .args(leading)
            .args(description.start.iter().map(|argument| fill.text(argument)))
            .envs(description.environment.iter().map(|(key, value)| (key, fill.text(value))))
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said)?);
        let mut group = Group::spawn(&mut command)?;
        wait_until_ready(&mut group, address).await.map_err(|error| {
            let said = fs::read_to_string(&said).unwrap_or_default();
            let last = said.lines().last().unwrap_or_default();
            io::Error::other(format!("{error}: {last}"))
        })?;
        Ok(Self { group, address, host: description.host().to_owned(), directory })
    }

    /// Its processes.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(self.group.child.id())
    }

    /// Whether its first process is still there.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.group.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Stops its processes, so that they do nothing while others are measured.
    pub(crate) fn pause(&self) -> io::Result<()> {
        self.group.signal(Signal::STOP)
    }

    pub(crate) fn resume(&self) -> io::Result<()> {
        self.group.signal(Signal::CONT)
    }

    /// What it said last on standard error.
    pub(crate) fn last_words(&self) -> String {
        let said = fs::read_to_string(self.directory.path().join("said")).unwrap_or_default();
        said.lines().last().unwrap_or_default().to_owned()
    }
}

/// A port that was free a moment ago.
fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

async fn wait_until_ready(group: &mut Group, address: SocketAddr) -> io::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < READY_WITHIN {
        if let Some(status) = group.child.try_wait()? {
            return Err(io::Error::other(format!("ended with {status}")));
        }
        if TcpSocket::new_v4()?.connect(address).await.is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err(io::ErrorKind::TimedOut.into())
}
