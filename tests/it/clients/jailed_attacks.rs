//! Attacks on the jail of `exeat run`: what a program, or another user of the machine, does to have
//! the next program run without a jail, or to reach what is outside from within.
//!
//! Skipped by name where the kernel lets nobody make user namespaces.

use std::{
    fs::Permissions,
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    process::Child,
};

use super::{
    jailed::{Jail, NOBODY, User, users},
    *,
};

/// A program outside that says `ready`, and runs until it is dropped.
struct Outside(Child);

impl Outside {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self(child)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Brings loopback up, in a new network, which the proxy needs.
const UP: &str = r#"
import fcntl, socket, struct
with socket.socket() as up:
    fcntl.ioctl(up, 0x8914, struct.pack("16sh14x", b"lo", 1))
"#;

/// Without `--jail`, which is then `auto`.
fn by_default(jail: &Jail, program: &[&str]) -> Command {
    let mut command = jail.bare(&jail.exeat);
    command.args(["run", "--preset", "agent", "--"]).args(program);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_no_reason_to_do_without_a_jail() {
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        // A descriptor that leads out, and a working directory that is hidden.
        let mut leaked = jail.bare(Path::new("sh"));
        let exeat = jail.exeat.display();
        leaked.args(["-c", &format!("exec '{exeat}' run --preset agent -- echo ran 7< /tmp")]);
        let finished = run(leaked).await;
        assert_eq!((finished.code, finished.text().as_str()), (Some(69), ""), "{user:?}");
        assert!(finished.stderr.contains("descriptor 7 is open"), "{}", finished.stderr);
        assert!(!finished.stderr.contains("NOT JAILED"), "{}", finished.stderr);
        if let Ok(below) = tempfile::tempdir_in("/run") {
            fs::set_permissions(below.path(), Permissions::from_mode(0o755)).unwrap();
            let mut command = by_default(&jail, &["echo", "ran"]);
            command.current_dir(below.path());
            let finished = run(command).await;
            assert_eq!((finished.code, finished.text().as_str()), (Some(69), ""), "{user:?}");
            assert!(finished.stderr.contains("it is hidden in the jail"), "{}", finished.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_are_all_in_use_are_no_reason_either() {
    let Some(jail) = Jail::set(User::Own).await else { return };
    let root = ["unshare", "--user", "--map-root-user"];
    if !works(&[&root[..], &["true"]].concat()).await {
        skip("unshare makes no user namespace");
        return;
    }
    // There may be one below the first, and it is there.
    let mut command = jail.bare(Path::new(root[0]));
    command.args(&root[1..]).args(["sh", "-c"]).arg(format!(
        "echo 1 > /proc/sys/user/max_user_namespaces && exec {} '{}' run --preset agent -- echo ran",
        root.join(" "),
        jail.exeat.display()
    ));
    let finished = run(command).await;
    assert_eq!((finished.code, finished.text().as_str()), (Some(69), ""), "{}", finished.stderr);
    assert!(finished.stderr.contains("no jail, cannot make namespaces"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jail_within_a_jail_is_one_or_says_why_not() {
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let inner = "\"$EXEAT\" run --jail require --preset agent -- echo ran";
        let finished = run(jail.script(inner)).await;
        let is_root = matches!(user, User::Own) && rustix::process::geteuid().is_root();
        let expected = if is_root { (Some(69), "") } else { (Some(0), "ran\n") };
        let found = (finished.code, finished.text());
        assert_eq!((found.0, found.1.as_str()), expected, "{user:?} {}", finished.stderr);
        assert_eq!(finished.stderr.contains("root needs CAP_SETFCAP"), is_root);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_sockets_is_hidden() {
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let flood = jail.launch.path("flood");
        fs::create_dir(&flood).unwrap();
        for number in 0..6_000 {
            drop(UnixListener::bind(flood.join(number.to_string())).unwrap());
        }
        fs::write(flood.join("plain"), "").unwrap();
        let finished = run(jail.script("find flood -type s | wc -l; echo jailed")).await;
        assert_eq!(finished.text(), "0\njailed\n", "{user:?} {}", finished.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_by_another_name_are_out_of_reach() {
    if !python_installed().await {
        return;
    }
    if !works(&["unshare", "--user", "--map-root-user", "--net", "true"]).await {
        skip("unshare makes no user namespace");
        return;
    }
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        // Too deep to be found without being asked for.
        let deep = jail.launch.path("a/b/c/d/e");
        let runtime = jail.launch.path("runtime");
        for directory in [&deep, &deep.join("runtime"), &jail.launch.path("other")] {
            fs::create_dir_all(directory).unwrap();
        }
        std::os::unix::fs::symlink(deep.join("runtime"), &runtime).unwrap();
        let attempts = r#"
import socket, sys
def attempt(path):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(path) == 0
print([path for path in sys.argv[1:] if attempt(path)])
"#;
        fs::write(jail.launch.path("program.py"), attempts).unwrap();
        // In a network of its own: to another test's user some of them are lost.
        let program = format!(
            r#"
{UP}
import os, subprocess, sys
held, paths = [], []
def bind(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen()
    os.chmod(path, 0o777)
    held.append(s)
os.chdir({deep:?})
bind("relative")
bind({deep:?} + "/linked.RANDOM")
os.link("linked.RANDOM", "linked")
os.unlink("linked.RANDOM")
bind({deep:?} + "/before")
os.rename("before", "renamed")
bind({deep:?} + "/twice")
os.link("twice", {other:?})
bind({deep:?} + "/new\nline")
bind({runtime:?} + "/bus")
names = ["relative", "linked", "renamed", "twice", "new\nline", "runtime/bus"]
try:
    os.symlink({deep:?}, {run:?})
    bind({run:?} + "/by-link")
    names.append("by-link")
except OSError:
    pass
paths = [os.path.join({deep:?}, name) for name in names] + [{other:?}, {runtime:?} + "/bus"]
attempt = ["python3", "program.py"] + paths
os.chdir({home:?})
subprocess.run(attempt)
os.chdir({deep:?})
run = [{exeat:?}, "run", "--preset", "agent", "--jail", "require", "--"] + attempt
subprocess.run(run, cwd={home:?}, env=dict(os.environ, XDG_RUNTIME_DIR={runtime:?}), {user})
if "by-link" in names:
    os.unlink({run:?})
print(len(paths))
"#,
            deep = deep.display().to_string(),
            home = jail.launch.files.path().display().to_string(),
            exeat = jail.exeat.display().to_string(),
            runtime = runtime.display().to_string(),
            other = jail.launch.path("other/name").display().to_string(),
            run = format!("/run/exeat-test-{}-{user:?}", std::process::id()),
            user = match user {
                User::Own => String::new(),
                User::Nobody => format!("user={NOBODY}, group={NOBODY}, extra_groups=[]"),
            },
        );
        let mut command = bare("unshare", jail.launch.files.path());
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "python3", "-u", "-c", &program]);
        let finished = run(command).await.succeeded();
        let text = finished.text();
        let lines: Vec<&str> = text.lines().collect();
        let [outside, within, number] = lines[..] else { panic!("{text} {}", finished.stderr) };
        // Outside they can be reached.
        let home = jail.launch.files.path().display().to_string();
        assert_eq!(outside.matches(&home).count().to_string(), number, "{outside}");
        assert_eq!(within, "[]", "{user:?} {}", finished.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_cannot_be_found_is_named() {
    if !python_installed().await {
        return;
    }
    let Some(jail) = Jail::set(User::Own).await else { return };
    if !works(&["unshare", "--user", "--map-root-user", "--net", "true"]).await {
        skip("unshare makes no user namespace");
        return;
    }
    // Moved to where nobody looks; in a network of its own, so that no other test meets it.
    let (from, to) = (jail.launch.path("1/2/3/4/5/6"), jail.launch.path("9/8/7/6/5/4"));
    for directory in [&from, &to] {
        fs::create_dir_all(directory).unwrap();
    }
    let program = format!(
        r#"
{UP}
import os, subprocess
s = socket.socket(socket.AF_UNIX)
s.bind({from:?} + "/agent")
s.listen()
os.rename({from:?} + "/agent", {to:?} + "/agent")
for mode in "require", "auto":
    run = [{exeat:?}, "run", "--jail", mode, "--preset", "agent", "--", "echo", "ran"]
    ended = subprocess.run(run, capture_output=True, text=True)
    print(ended.returncode, ended.stdout.strip(), ended.stderr)
"#,
        from = from.display().to_string(),
        to = to.display().to_string(),
        exeat = jail.exeat.display().to_string(),
    );
    let mut command = jail.bare(Path::new("unshare"));
    command.args(["--user", "--map-root-user", "--net", "python3", "-c", &program]);
    let finished = run(command).await.succeeded();
    let text = finished.text();
    let names = format!("{}/agent", from.display());
    assert!(text.starts_with("69  exeat: no jail, "), "{text}");
    assert!(text.contains("\n0 ran exeat: jailed, but "), "{text}");
    assert_eq!(text.matches(&names).count(), 2, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_its_owner_closed_is_not_out_of_reach() {
    if !python_installed().await {
        return;
    }
    let Some(user) = users().pop() else { return };
    let Some(jail) = Jail::set(user).await else { return };
    let unshare = ["--user", "--map-current-user", "--net"];
    if !works(&[&["unshare"], &unshare[..], &["true"]].concat()).await {
        skip("unshare makes no user namespace");
        return;
    }
    let own = jail.launch.path("own");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, Permissions::from_mode(0o777)).unwrap();
    let program = format!(
        r#"
import os, socket, subprocess
os.mkdir({own:?} + "/closed")
s = socket.socket(socket.AF_UNIX)
s.bind({own:?} + "/closed/agent")
s.listen()
os.chmod({own:?} + "/closed", 0)
run = [{exeat:?}, "run", "--jail", "require", "--preset", "agent", "--", "echo", "ran"]
ended = subprocess.run(run, capture_output=True, text=True)
print(ended.returncode, ended.stdout.strip(), ended.stderr)
os.chmod({own:?} + "/closed", 0o700)
"#,
        own = own.display().to_string(),
        exeat = jail.exeat.display().to_string(),
    );
    let mut command = jail.bare(Path::new("unshare"));
    command.args(unshare).args(["python3", "-c", &program]);
    let text = run(command).await.succeeded().text();
    assert!(text.starts_with("69  exeat: no jail, unix sockets"), "{text}");
    assert!(text.contains("/own/closed/agent"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_stay_within() {
    if !python_installed().await {
        return;
    }
    if !scopes_signals() {
        skip_optional("this kernel does not scope signals");
        return;
    }
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let mut command = jail.bare(Path::new("sh"));
        command.args(["-c", "echo ready; read wait"]);
        let outside = Outside::start(command);
        let program = r#"
import errno, json, os, resource, signal, subprocess
def attempt(action, *arguments):
    try:
        action(*arguments)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
own = subprocess.Popen(["sleep", "1000"])
print(json.dumps({
    "outside": attempt(os.kill, PID, 0), "proxy": attempt(os.kill, os.getppid(), 0),
    "limits": attempt(resource.prlimit, PID, resource.RLIMIT_CORE, (0, 0)),
    "own limits": attempt(resource.prlimit, 0, resource.RLIMIT_CORE, (0, 0)),
    "own": attempt(own.terminate), "ended": own.wait(),
}))
"#;
        let found = jail.python(&program.replace("PID", &outside.0.id().to_string())).await;
        let expected = json!({
            "outside": "EPERM", "proxy": "EPERM", "limits": "EPERM",
            "own limits": "done", "own": "done", "ended": -15,
        });
        assert_eq!(found, expected, "{user:?}");
    }
}

/// Whether Landlock has what it takes (ABI 6).
pub(super) fn scopes_signals() -> bool {
    use landlock::{ABI, Access as _, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};

    let scopes = landlock::Scope::from_all(ABI::V6);
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement).scope(scopes).is_ok()
}

/// `exeat run` as root of a mount namespace, after a script.
fn after(jail: &Jail, script: &str, program: &str) -> Command {
    let mut command = jail.bare(Path::new("unshare"));
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let exeat = jail.exeat.display();
    command.args(["--mount", "sh", "-c"]).arg(format!(
        "set -e; {script}; exec '{exeat}' run --jail require --preset agent -- sh -c '{program}'"
    ));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_hidden_wherever_it_is_mounted() {
    if !python_installed().await {
        return;
    }
    let Some(jail) = Jail::set(User::Own).await else { return };
    if !works(&["unshare", "--user", "--map-root-user", "--mount", "true"]).await {
        skip("unshare makes no user namespace");
        return;
    }
    let program = "import socket, sys\n\
        for path in sys.argv[1:]:\n  \
            with socket.socket(socket.AF_UNIX) as s:\n    \
                print(path, s.connect_ex(path) == 0)\n";
    fs::write(jail.launch.path("program.py"), program).unwrap();
    fs::create_dir_all(jail.launch.path("1/2/3/4/5")).unwrap();
    fs::create_dir(jail.launch.path("again")).unwrap();
    let listener = UnixListener::bind(jail.launch.path("1/2/3/4/5/agent")).unwrap();
    let script = "mount --bind 1/2/3 again; python3 program.py again/4/5/agent";
    let program = "python3 program.py 1/2/3/4/5/agent again/4/5/agent";
    let finished = run(after(&jail, script, program)).await;
    let expected = "again/4/5/agent True\n1/2/3/4/5/agent False\nagain/4/5/agent False\n";
    assert_eq!(finished.text(), expected, "{}", finished.stderr);
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_no_resolver_is_not_followed() {
    let Some(jail) = Jail::set(User::Own).await else { return };
    if !works(&["unshare", "--user", "--map-root-user", "--mount", "true"]).await {
        skip("unshare makes no user namespace");
        return;
    }
    let missing = jail.launch.path("missing/resolv.conf");
    let script = format!(
        "cp -r /etc etc 2>/dev/null || true; rm -f etc/resolv.conf; ln -s '{}' etc/resolv.conf; \
         mount --bind etc /etc",
        missing.display()
    );
    let finished = run(after(&jail, &script, "getent ahosts ok.test | head -n 1")).await;
    assert!(finished.text().starts_with("198.18.0.0 "), "{} {}", finished.text(), finished.stderr);
    assert!(!missing.parent().unwrap().exists(), "nothing is written outside");
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_that_lead_to_sockets_or_directories_are_refused() {
    if !python_installed().await {
        return;
    }
    let Some(jail) = Jail::set(User::Own).await else { return };
    let _listener = UnixListener::bind(jail.launch.path("agent.sock")).unwrap();
    let exeat = jail.exeat.display().to_string();
    for (open, refused) in [
        ("os.dup2(os.open('agent.sock', os.O_PATH), 5)", true),
        ("os.dup2(os.open('agent.sock', os.O_PATH), 0)", true),
        ("os.dup2(os.open('/', os.O_PATH), 5)", true),
        ("os.dup2(os.open('/', os.O_RDONLY), 0)", true),
        ("os.dup2(os.memfd_create('x'), 5)", false),
        ("os.dup2(os.open('program.py', os.O_RDONLY), 5)", false),
        ("os.dup2(os.open('/dev/null', os.O_RDWR), 5)", false),
        ("os.dup2(os.pipe()[0], 5)", false),
        ("os.dup2(os.open('/proc/self/ns/net', os.O_RDONLY), 5)", true),
        ("os.dup2(socket.socket().detach(), 5)", true),
    ] {
        let program = format!(
            "import os, socket\n{open}\nos.execl({exeat:?}, 'exeat', 'run', '--preset', 'agent', '--', 'echo', 'ran')"
        );
        fs::write(jail.launch.path("program.py"), program).unwrap();
        let mut command = jail.bare(Path::new("python3"));
        command.arg("program.py");
        let finished = run(command).await;
        let expected = if refused { (Some(69), "") } else { (Some(0), "ran\n") };
        assert_eq!(
            (finished.code, finished.text().as_str()),
            expected,
            "{open} {}",
            finished.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_of_the_kernels_settings_is_read_only() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Some(jail) = Jail::set(User::Own).await else { return };
    let script = "mkdir second; mount -t proc proc second";
    let program = "for f in /proc second; do \
        test -w $f/sys/kernel/core_pattern && echo $f can be written; done; \
        for f in /sys/kernel/*; do test -w $f && echo $f can be written; done; \
        for f in /sys/fs/cgroup/*/cgroup.procs; do test -w $f && echo $f can be written; done; \
        echo ran";
    let finished = run(after(&jail, script, program)).await;
    assert_eq!(finished.text(), "ran\n", "{}", finished.stderr);
}
