//! Servers that are no origins of the tests' own: sshd, `PostgreSQL`. On loopback, with keys and data
//! of their own.

use std::{
    fs::Permissions,
    io,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{PermissionsExt as _, chown},
            process::CommandExt as _,
        },
    },
    process::Child,
    thread::JoinHandle,
};

use super::{
    jailed::{NOBODY, User},
    *,
};
use crate::support::{eventually, signal};

/// An sshd for the user of the tests, and a key that it takes. Each connection has a process of its
/// own, as under inetd.
pub(super) struct Sshd {
    listener: TcpListener,
    directory: PathBuf,
    /// Who may come in.
    pub(super) user: String,
}

impl Sshd {
    /// None where there is none to be had.
    pub(super) async fn install(directory: PathBuf) -> Option<Self> {
        if !installed("ssh-keygen", &["sh", "-c", "command -v ssh-keygen ssh"]).await {
            return None;
        }
        fs::create_dir(&directory).unwrap();
        let generate = |name| {
            let mut command = bare("ssh-keygen", &directory);
            command.args(["-q", "-t", "ed25519", "-N", "", "-f", name]);
            command
        };
        run(generate("host_key")).await.succeeded();
        run(generate("key")).await.succeeded();
        let path = |name: &str| directory.join(name).display().to_string();
        let settings = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            path("host_key"),
            path("key.pub"),
        );
        fs::write(directory.join("sshd_config"), settings).unwrap();
        let mut id = bare("id", &directory);
        id.arg("-un");
        let user = run(id).await.succeeded().text().trim().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sshd = Self { listener, directory, user };
        let mut test = sshd.command();
        test.arg("-t");
        let finished = run(test).await;
        if !finished.success {
            skip(&format!("sshd does not run: {}", finished.stderr));
            return None;
        }
        Some(sshd)
    }

    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// What `owner` tells ssh to come in at `host`: `ssh -F FILE`. It takes keys of nobody else.
    pub(super) fn client(&self, host: &str, owner: User) -> PathBuf {
        let path = |name: &str| self.directory.join(name);
        let key = path("key");
        match owner {
            User::Own => {}
            User::Nobody => chown(&key, Some(NOBODY), Some(NOBODY)).unwrap(),
        }
        let host_key = fs::read_to_string(path("host_key.pub")).unwrap();
        fs::write(path("known_hosts"), format!("[{host}]:{} {host_key}", self.port())).unwrap();
        let settings = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nBatchMode yes\nStrictHostKeyChecking yes\n\
             UserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n",
            key.display(),
            path("known_hosts").display(),
        );
        fs::write(path("ssh_config"), settings).unwrap();
        path("ssh_config")
    }

    /// Serves one connection.
    pub(super) fn serve(&self) -> JoinHandle<()> {
        let listener = self.listener.try_clone().unwrap();
        let mut command = self.command();
        command.args(["-i", "-e"]);
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let output = OwnedFd::from(stream.try_clone().unwrap());
            command.stdin(OwnedFd::from(stream)).stdout(output).stderr(Stdio::null());
            command.status().unwrap();
        })
    }

    /// Nobody has connected but those who were served.
    pub(super) fn assert_untouched(&self) {
        self.listener.set_nonblocking(true).unwrap();
        let error = self.listener.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        self.listener.set_nonblocking(false).unwrap();
    }

    /// Run by root it wants a directory that only a booted machine has.
    fn command(&self) -> Command {
        let sshd = "exec \"$(PATH=\"$PATH:/usr/sbin\" command -v sshd)\" \"$@\"";
        let has_place = Path::new("/run/sshd").is_dir() || !rustix::process::geteuid().is_root();
        let script = match has_place {
            true => sshd.to_owned(),
            false => format!("mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && {sshd}"),
        };
        let shell = ["sh", "-c", &script, "sshd", "-f"];
        let command = match has_place {
            true => shell.to_vec(),
            false => [&["unshare", "--mount"], &shell[..]].concat(),
        };
        let mut sshd = bare(command[0], &self.directory);
        sshd.args(&command[1..]).arg(self.directory.join("sshd_config"));
        sshd
    }
}

/// A `PostgreSQL` server that trusts everybody, with TLS for `ok.test`.
pub(super) struct Postgres {
    server: Child,
    pub(super) port: u16,
    /// What to trust for TLS.
    pub(super) authority: PathBuf,
}

/// Where Debian has the server's programs, below the version.
const POSTGRES: &str = "for p in \"$(command -v postgres)\" /usr/lib/postgresql/*/bin/postgres; do \
    if [ -x \"$p\" ]; then dirname \"$(readlink -f \"$p\")\"; exit; fi; done; exit 1";

impl Postgres {
    /// None where there is none to be had.
    pub(super) async fn start(directory: PathBuf) -> Option<Self> {
        let there = installed("psql", &["psql", "--version"]).await
            && installed("PostgreSQL", &["sh", "-c", POSTGRES]).await;
        if !there {
            return None;
        }
        let parent = directory.parent().unwrap();
        let mut find = bare("sh", parent);
        find.args(["-c", POSTGRES]);
        let programs = PathBuf::from(run(find).await.succeeded().text().trim());
        fs::create_dir(&directory).unwrap();
        let authority = parent.join("postgres.pem");
        let made = rcgen::generate_simple_self_signed(["ok.test".to_owned()]).unwrap();
        fs::write(&authority, made.cert.pem()).unwrap();
        let key = directory.join("server.key");
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        // It refuses to be root.
        let is_root = rustix::process::geteuid().is_root();
        let own = |mut command: Command| {
            if is_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        if is_root {
            for path in [&directory, &key] {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let data = directory.join("data");
        let mut initdb = own(bare("sh", &directory));
        initdb.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(programs.join("initdb")).arg("-D");
        initdb.arg(&data).args(["--auth=trust", "--username=postgres", "--locale=C", "--no-sync"]);
        run(initdb).await.succeeded();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = own(bare(programs.join("postgres").to_str().unwrap(), &directory));
        server.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "ssl=on",
            &format!("ssl_cert_file={}", authority.display()),
            &format!("ssl_key_file={}", key.display()),
        ] {
            server.args(["-c", setting]);
        }
        let log = fs::File::create(parent.join("postgres.log")).unwrap();
        let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let postgres = Self { server, port, authority };
        eventually("PostgreSQL is ready", || {
            let log = fs::read_to_string(parent.join("postgres.log")).unwrap();
            log.contains("ready to accept connections").then_some(())
        })
        .await;
        Some(postgres)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once, with its own children.
        signal(self.server.id(), "QUIT");
        self.server.wait().ok();
    }
}
