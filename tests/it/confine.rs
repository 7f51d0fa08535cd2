//! What a running proxy has given up, seen from outside; and from inside, by a process that is
//! confined by the same function and then tries.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    num::NonZero,
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
};

use exeat::{
    app::Opened,
    confine::{Files, confine},
    settings::{Environment, Flags, Settings, SettingsFile},
};
use rustix::process::{getppid, test_kill_process};
use socket2::{Domain, Socket, Type};
use tokio::signal::unix::{SignalKind, signal};

use crate::support::{PATIENCE, Proxy, ProxyBuilder, connect_to, eventually, exchange};

/// Where the confined process of these tests may go.
const STAGE: &str = "EXEAT_TEST_STAGE";

/// One line of `/proc/PID/task/TID/status` for every thread.
fn threads(proxy: &Proxy, line: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", proxy.pid())).unwrap();
    tasks
        .map(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let found = status.lines().find_map(|found| found.strip_prefix(line));
            found.expect("the line is there").trim_start_matches(':').trim().to_owned()
        })
        .collect()
}

#[tokio::test]
async fn every_thread_has_given_everything_up() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]").start().await;
    // A reload, so that the threads for blocking work are there too.
    proxy.replace_policy("allowed_domains = [\"b.test\"]");
    proxy.signal("HUP");
    eventually("the reload", || proxy.log().contains("policy reloaded").then_some(())).await;
    let log = proxy.log();
    assert!(log.contains("exeat: confined: no_new_privs") && log.contains("seccomp"), "{log}");
    assert!(threads(&proxy, "Seccomp").len() >= 3);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(threads(&proxy, set).iter().all(|held| held == "0000000000000000"), "{set}");
    }
    assert!(threads(&proxy, "NoNewPrivs").iter().all(|set| set == "1"));
    // 2 is SECCOMP_MODE_FILTER.
    assert!(threads(&proxy, "Seccomp").iter().all(|mode| mode == "2"));
    // And it has not missed anything.
    assert_eq!(proxy.health().await["confinement"]["calls_refused"], 0);
}

/// Who has the descriptor of a notifying filter may answer that a call goes on; and all threads have
/// the same descriptors, and the same memory.
#[tokio::test]
async fn nobody_may_let_a_call_through() {
    let proxy = ProxyBuilder::new("").start().await;
    let open = fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap();
    let open: Vec<PathBuf> =
        open.filter_map(|descriptor| fs::read_link(descriptor.unwrap().path()).ok()).collect();
    assert!(open.len() > 3, "{open:?}");
    let notifying = open.iter().any(|what| what.to_string_lossy().contains("seccomp"));
    assert!(!notifying, "{open:?}");
}

#[tokio::test]
async fn the_flag_leaves_it_out() {
    let proxy = ProxyBuilder::new("").flag("--no-confine").start().await;
    assert!(proxy.log().contains("exeat: not confined (--no-confine)"));
    let inherited = fs::read_to_string("/proc/self/status").unwrap();
    let mode = inherited.lines().find_map(|line| line.strip_prefix("Seccomp:")).unwrap().trim();
    assert!(threads(&proxy, "Seccomp").iter().all(|found| found == mode));
}

#[tokio::test]
async fn a_policy_that_moves_elsewhere_is_reported() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]").start().await;
    if !proxy.log().contains("Landlock ABI") {
        println!("skipped: this kernel has no Landlock");
        return;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let policy = elsewhere.path().join("requirements.toml");
    fs::copy(proxy.path("requirements.toml"), &policy).unwrap();
    std::os::unix::fs::symlink(&policy, proxy.path("link")).unwrap();
    fs::rename(proxy.path("link"), proxy.path("requirements.toml")).unwrap();
    proxy.signal("HUP");
    eventually("the report", || {
        let log = proxy.log();
        (log.contains("stays in force") && log.contains("restart it")).then_some(())
    })
    .await;
    assert_eq!(proxy.health().await["policy"]["generation"], 1);
}

#[test]
fn a_confined_process_reaches_nothing_else() {
    if let Some(stage) = std::env::var_os(STAGE) {
        return attempts(Path::new(&stage));
    }
    let stage = tempfile::tempdir().unwrap();
    for name in ["policy", "audit", "other"] {
        fs::create_dir(stage.path().join(name)).unwrap();
        fs::write(stage.path().join(name).join("file"), "there").unwrap();
    }
    let said = alone("confine::a_confined_process_reaches_nothing_else", stage.path());
    assert!(said.contains("confined: no_new_privs"), "{said}");
}

#[test]
fn what_is_refused_is_counted() {
    if let Some(stage) = std::env::var_os(STAGE) {
        return counting(Path::new(&stage));
    }
    let stage = tempfile::tempdir().unwrap();
    alone("confine::what_is_refused_is_counted", stage.path());
}

/// A proxy that listens at a path removes that path, and nothing else.
#[test]
fn files_are_removed_only_where_one_has_to_be() {
    if let Some(stage) = std::env::var_os(STAGE) {
        return removing(Path::new(&stage));
    }
    let stage = tempfile::tempdir().unwrap();
    for name in ["sockets", "other"] {
        fs::create_dir(stage.path().join(name)).unwrap();
        fs::write(stage.path().join(name).join("file"), "there").unwrap();
        fs::create_dir(stage.path().join(name).join("directory")).unwrap();
    }
    alone("confine::files_are_removed_only_where_one_has_to_be", stage.path());
}

/// The system file may come while its directory is not there: then nothing below the directory above
/// is read, where everybody's files are, and nothing goes out once it has come.
#[test]
fn a_system_file_that_comes_late_is_not_overlooked() {
    const NAME: &str = "confine::a_system_file_that_comes_late_is_not_overlooked";
    if let Some(stage) = std::env::var_os(STAGE) {
        return coming_late(Path::new(&stage));
    }
    let stage = tempfile::tempdir().unwrap();
    let system = stage.path().join("codex");
    let said = alone_beside(NAME, stage.path(), |line| match line {
        "open" => {
            fs::create_dir(&system).unwrap();
            fs::write(system.join("requirements.toml"), DENIES).unwrap();
        }
        "closed" => fs::remove_dir_all(&system).unwrap(),
        _ => {}
    });
    assert!(said.contains("open again") || said.contains("skipped"), "{said}");
}

/// Where its directory is there, it is read.
#[test]
fn a_system_file_that_comes_into_its_directory_applies() {
    const NAME: &str = "confine::a_system_file_that_comes_into_its_directory_applies";
    if let Some(stage) = std::env::var_os(STAGE) {
        return coming_late(Path::new(&stage));
    }
    let stage = tempfile::tempdir().unwrap();
    let system = stage.path().join("codex");
    fs::create_dir(&system).unwrap();
    let said = alone_beside(NAME, stage.path(), |line| {
        if line == "open" {
            fs::write(system.join("requirements.toml"), DENIES).unwrap();
        }
    });
    assert!(said.contains("applied") || said.contains("skipped"), "{said}");
}

const DENIES: &str = "[experimental_network]\ndenied_domains = [\"b.test\"]\n";

/// Runs one test in a process of its own, which may then give everything up.
fn alone(test: &str, stage: &Path) -> String {
    alone_beside(test, stage, |_| {})
}

/// The same, and does something when it says something.
fn alone_beside(test: &str, stage: &Path, beside: impl Fn(&str)) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(STAGE, stage)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        println!("{line}");
        beside(&line);
        said += &line;
        said += "\n";
    }
    assert!(child.wait().unwrap().success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    said
}

/// Gives up all but removing, and tries.
fn removing(stage: &Path) {
    let at = |path: &str| stage.join(path);
    let files = Files { remove: vec![at("sockets")], ..Files::default() };
    let (refused, refusals) = mpsc::channel();
    let confinement = confine(&files, move |number| {
        refused.send(number).ok();
    })
    .to_string();
    println!("{confinement}");
    let remove = |path: &str, flags| {
        errno(rustix::fs::unlinkat(rustix::fs::CWD, at(path), flags).map_err(io::Error::from))
    };
    let (file, directory) = (rustix::fs::AtFlags::empty(), rustix::fs::AtFlags::REMOVEDIR);
    rustix::fs::unlinkat(rustix::fs::CWD, at("sockets/file"), file).unwrap();
    assert_eq!(remove("sockets/directory", directory), EPERM);
    assert_eq!(i64::from(refusals.recv().unwrap()), libc::SYS_unlinkat);
    if confinement.contains("Landlock ABI") {
        assert_eq!(remove("other/file", file), EACCES);
    }
    // The older calls stay forbidden, and files are not made there.
    assert!(File::create(at("sockets/file")).is_err());
    assert!(fs::rename(at("other/file"), at("sockets/file")).is_err());
}

/// A proxy that does once what no proxy does.
fn counting(stage: &Path) {
    let policy = stage.join("requirements.toml");
    fs::write(&policy, "[experimental_network]\nenabled = true\n").unwrap();
    let flags = Flags {
        requirements: Some(policy.clone()),
        listen: "127.0.0.1:0".parse().ok(),
        audit: Some("off".into()),
        ..Flags::default()
    };
    let settings = Settings::resolve(flags, Environment::default(), SettingsFile::default());
    let opened = Opened::new(settings, &stage.join("none.toml")).unwrap();
    let confinement = opened.confine().to_string();
    println!("{confinement}");
    assert_eq!(errno(fs::remove_file(policy)), EPERM);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let app = opened.start(NonZero::<usize>::MIN).await.unwrap();
        let ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while exchange(app.place().address().unwrap(), ask).await.json()["confinement"]["calls_refused"] != 1 {
            assert!(tokio::time::Instant::now() < deadline, "it is never counted");
        }
    });
}

/// A proxy whose system file comes and goes, at its word.
fn coming_late(stage: &Path) {
    let at = |path: &str| stage.join(path);
    fs::create_dir(at("policy")).unwrap();
    let policy = at("policy/requirements.toml");
    fs::write(&policy, "[experimental_network]\nenabled = true\nallowed_domains = [\"*.test\"]\n")
        .unwrap();
    fs::write(at("shadow"), "secret").unwrap();
    let flags = Flags {
        requirements: Some(policy),
        listen: "127.0.0.1:0".parse().ok(),
        audit: Some("off".into()),
        ..Flags::default()
    };
    let may_be_read = at("codex").is_dir();
    let file = SettingsFile::parse("[dns]\nservers = []\n").unwrap();
    let settings = Settings::resolve(flags, Environment::default(), file);
    let opened = Opened::new(settings, &at("codex/requirements.toml")).unwrap();
    let confinement = opened.confine().to_string();
    println!("\n{confinement}");
    if !confinement.contains("Landlock ABI") {
        println!("skipped: this kernel has no Landlock");
        return;
    }
    assert_eq!(errno(File::open(at("shadow"))), EACCES);
    assert!(File::open("/etc/shadow").is_err() && File::open("/etc/passwd").is_err());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let app = opened.start(NonZero::<usize>::MIN).await.unwrap();
        let address = app.place().address().unwrap();
        tokio::spawn(app.run(std::future::pending(), Arc::default()));
        let until = async |host: &str, status: u16| {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                let answer = exchange(address, &connect_to(host)).await;
                if answer.status == status {
                    return answer;
                }
                assert!(tokio::time::Instant::now() < deadline, "{answer:?}");
            }
        };
        // Allowed, and not resolved.
        until("b.test", 502).await;
        println!("open");
        if may_be_read {
            let answer = until("b.test", 403).await;
            assert!(answer.phrase.contains("denied by b.test"), "{}", answer.phrase);
            until("a.test", 502).await;
            println!("applied");
            return;
        }
        let answer = until("a.test", 403).await;
        assert_eq!(answer.json()["reason"], "proxy_disabled");
        let phrase = "network disabled, requirements.toml, which came late: restart exeat";
        assert!(answer.phrase.contains(phrase), "{}", answer.phrase);
        println!("closed");
        until("a.test", 502).await;
        println!("open again");
    });
}

/// Gives everything up, and tries.
fn attempts(stage: &Path) {
    let at = |path: &str| stage.join(path);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let kept = File::open(at("other/file")).unwrap();
    let unbound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    unbound.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let files = Files { read: vec![at("policy")], write: vec![at("audit")], ..Files::default() };
    let (refused, refusals) = mpsc::channel();
    let confinement = confine(&files, move |number| refused.send(number).unwrap());
    println!("{confinement}");

    // What a proxy does goes on working.
    assert_eq!(fs::read_to_string(at("policy/file")).unwrap(), "there");
    append(at("audit/file")).unwrap().write_all(b"a line\n").unwrap();
    append(at("audit/new")).unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.accept().unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap();
    UnixStream::pair().unwrap();
    std::thread::spawn(|| ()).join().unwrap();
    assert!(fs::metadata(at("other/file")).unwrap().is_file());
    drop(kept);
    assert!(refusals.try_recv().is_err(), "none of this was refused");

    // Capabilities are gone, also those that root had.
    let held = rustix::thread::capabilities(None).unwrap();
    assert!(held.effective.is_empty() && held.permitted.is_empty() && held.inheritable.is_empty());

    // Calls that a proxy never makes. Each is heard of.
    let refused = |what: &str, errno: i32| {
        assert_eq!(errno, EPERM, "{what}");
        i64::from(refusals.recv().expect("it is heard of"))
    };
    let exec = errno(Err::<(), _>(Command::new("/bin/true").exec()));
    assert_eq!(refused("exec", exec), libc::SYS_execve);
    for domain in [Domain::PACKET, Domain::UNIX, Domain::from(libc::AF_NETLINK)] {
        refused("socket", errno(Socket::new(domain, Type::DGRAM, None)));
    }
    refused("listen", errno(unbound.listen(1)));
    refused("unlink", errno(fs::remove_file(at("audit/file"))));
    refused("rename", errno(fs::rename(at("audit/file"), at("audit/gone"))));
    let open = fs::Permissions::from_mode(0o777);
    refused("chmod", errno(fs::set_permissions(at("policy/file"), open)));
    refused("kill", test_kill_process(getppid().unwrap()).unwrap_err().raw_os_error());
    let hooked = errno(runtime.block_on(async { signal(SignalKind::from_raw(libc::SIGSYS)) }));
    assert_eq!(refused("another handler", hooked), libc::SYS_rt_sigaction);
    // On a thread that was started later, which has the handler and the filter too.
    let elsewhere = std::thread::spawn(|| errno(rustix::process::chroot("/").map_err(Into::into)));
    assert_eq!(refused("chroot", elsewhere.join().unwrap()), libc::SYS_chroot);
    // Libraries block all signals for this one, so that nobody hears of it.
    assert_eq!(errno(Command::new("/bin/true").spawn()), EPERM);
    assert!(refusals.try_recv().is_err());

    if !confinement.to_string().contains("Landlock ABI") {
        println!("skipped: files, because this kernel has no Landlock");
        return;
    }
    for (what, attempt) in [
        ("read elsewhere", File::open(at("other/file")).map(drop)),
        ("read a file of the system", File::open("/etc/passwd").map(drop)),
        ("read what may only be written", File::open(at("audit/file")).map(drop)),
        ("write the policy", append(at("policy/file")).map(drop)),
        ("write elsewhere", append(at("other/new")).map(drop)),
        ("list a directory", fs::read_dir(at("other")).map(drop)),
    ] {
        assert_eq!(errno(attempt), EACCES, "{what}");
    }
    // Since the fourth version of Landlock.
    if !["ABI 1 ", "ABI 2 ", "ABI 3 "].iter().any(|old| confinement.to_string().contains(old)) {
        assert_eq!(errno(TcpListener::bind("127.0.0.1:0")), EACCES, "bind");
    }
}

const EPERM: i32 = 1;
const EACCES: i32 = 13;

fn errno<T>(result: io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

fn append(path: PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
