//! What a running proxy has given up, seen from outside; and from inside, by a process that is
//! confined by the same function and then tries.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use exeat::confine::{Files, confine};
use rustix::process::{getppid, test_kill_process};
use socket2::{Domain, Socket, Type};

use crate::support::{Proxy, ProxyBuilder, eventually};

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
}

#[tokio::test]
async fn the_flag_leaves_it_out() {
    let proxy = ProxyBuilder::new("").flag("--no-confine").start().await;
    assert!(proxy.log().contains("exeat: not confined (--no-confine)"));
    let inherited = fs::read_to_string("/proc/self/status").unwrap();
    let mode = inherited.lines().find_map(|line| line.strip_prefix("Seccomp:")).unwrap().trim();
    assert!(threads(&proxy, "Seccomp").iter().all(|found| found == mode));
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
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "confine::a_confined_process_reaches_nothing_else", "--nocapture"])
        .env(STAGE, stage.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("confined: no_new_privs") && said.contains("1 passed"), "{said}");
}

/// Gives everything up, and tries.
fn attempts(stage: &Path) {
    let at = |path: &str| stage.join(path);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let kept = File::open(at("other/file")).unwrap();
    let unbound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    unbound.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let confinement = confine(&Files { read: vec![at("policy")], write: vec![at("audit")] });
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

    // Capabilities are gone, also those that root had.
    let held = rustix::thread::capabilities(None).unwrap();
    assert!(held.effective.is_empty() && held.permitted.is_empty() && held.inheritable.is_empty());

    // Calls that a proxy never makes.
    assert_eq!(errno(Err::<(), _>(Command::new("/bin/true").exec())), EPERM, "exec");
    assert_eq!(errno(Command::new("/bin/true").spawn()), EPERM, "fork");
    // 16 is AF_NETLINK.
    for domain in [Domain::PACKET, Domain::UNIX, Domain::from(16)] {
        assert_eq!(errno(Socket::new(domain, Type::DGRAM, None)), EPERM, "{domain:?}");
    }
    assert_eq!(errno(unbound.listen(1)), EPERM, "listen");
    assert_eq!(errno(fs::remove_file(at("audit/file"))), EPERM, "unlink");
    assert_eq!(errno(fs::rename(at("audit/file"), at("audit/gone"))), EPERM, "rename");
    let open = fs::Permissions::from_mode(0o777);
    assert_eq!(errno(fs::set_permissions(at("policy/file"), open)), EPERM, "chmod");
    let parent = getppid().unwrap();
    assert_eq!(test_kill_process(parent).unwrap_err().raw_os_error(), EPERM, "kill");

    if !confinement.to_string().contains("Landlock V") {
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
    if !["V1 ", "V2 ", "V3 "].iter().any(|old| confinement.to_string().contains(old)) {
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
