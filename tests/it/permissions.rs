//! Policy and settings files that another unprivileged user could change are not taken, at the start
//! and later.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{Proxy, ProxyBuilder, connect_to, eventually, exchange, skip, skip_optional};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What a start that fails says, and its exit code.
fn start(policy: &Path) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .args(["serve", "--listen", "127.0.0.1:0", "--audit", "off", "--requirements"])
        .arg(policy)
        .output()
        .unwrap();
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

/// Puts a policy in place that allows `b.test` and that everybody can write.
fn replace_writable(proxy: &Proxy) {
    let new = proxy.path("new");
    let rules = "[experimental_network]\nenabled = true\nallowed_domains = [\"b.test\"]\n";
    fs::write(&new, rules).unwrap();
    mode(&new, 0o646);
    fs::rename(&new, proxy.path("requirements.toml")).unwrap();
    proxy.signal("HUP");
}

#[test]
fn the_start_says_what_where_and_the_cure() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("requirements.toml");
    fs::write(&policy, "[experimental_network]\nenabled = true\n").unwrap();
    mode(&policy, 0o666);
    let (said, code) = start(&policy);
    assert_eq!(code, Some(78), "{said}");
    for part in
        ["requirements.toml (mode 0666)", "everyone", "chmod o-w", "--insecure-policy-permissions"]
    {
        assert!(said.contains(part), "{said}");
    }
    mode(&policy, 0o644);
    mode(directory.path(), 0o777);
    let (said, code) = start(&policy);
    assert_eq!(code, Some(78));
    assert!(said.contains(&format!("{} (mode 0777)", directory.path().display())), "{said}");
}

/// Settings can open private destinations, and so are the operator's alone. What only asks takes any.
#[test]
fn settings_that_others_can_write_are_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("requirements.toml");
    fs::write(&policy, "[experimental_network]\nenabled = true\nallowed_domains = [\"a.test\"]\n")
        .unwrap();
    let settings = directory.path().join("exeat.toml");
    fs::write(&settings, "[egress]\nprivate = [\"*.test\"]\n").unwrap();
    mode(&settings, 0o666);
    let exeat = |command: &[&str]| {
        let mut exeat = Command::new(env!("CARGO_BIN_EXE_exeat"));
        exeat.args(command).arg("--requirements").arg(&policy);
        exeat
    };
    // By the flag and by the variable; on an address that nobody here has, where a start ends that
    // goes on.
    let serve = ["serve", "--listen", "192.0.2.1:0", "--allow-non-loopback", "--audit", "off"];
    let mut by_flag = exeat(&serve);
    by_flag.arg("--settings").arg(&settings);
    let mut by_variable = exeat(&serve);
    by_variable.env("EXEAT_SETTINGS", &settings);
    for mut start in [by_flag, by_variable] {
        let output = start.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        let parts =
            ["settings", "exeat.toml (mode 0666)", "chmod o-w", "--insecure-policy-permissions"];
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
    let mut check = exeat(&["check", "a.test:443"]);
    let output = check.arg("--settings").arg(&settings).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut insecure = exeat(&serve);
    insecure.arg("--insecure-policy-permissions").arg("--settings").arg(&settings);
    let output = insecure.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot listen on 192.0.2.1"), "{said}");
}

#[tokio::test]
async fn a_file_that_becomes_writable_is_not_taken() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]").start().await;
    replace_writable(&proxy);
    eventually("the report", || {
        let log = proxy.log();
        (log.contains("is not taken") && log.contains("stays in force")).then_some(())
    })
    .await;
    assert_eq!(proxy.health().await["policy"]["generation"], 1);
    assert_eq!(exchange(proxy.address, &connect_to("b.test")).await.status, 403);
    // Once nobody else can write it, it is taken without a signal.
    mode(&proxy.path("requirements.toml"), 0o644);
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while exchange(proxy.address, &connect_to("b.test")).await.status == 403 {
        assert!(tokio::time::Instant::now() < deadline, "{}", proxy.log());
    }
}

/// What a file was refused for may pass without a change to the file.
#[tokio::test]
async fn a_refused_file_is_looked_at_again() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]").start().await;
    let directory = proxy.path("");
    mode(&directory, 0o777);
    proxy.replace_policy("allowed_domains = [\"b.test\"]");
    eventually("the report", || proxy.log().contains("by everyone").then_some(())).await;
    mode(&directory, 0o755);
    eventually("the reload", || proxy.log().contains("policy reloaded").then_some(())).await;
    assert_eq!(proxy.log().matches("by everyone").count(), 1, "{}", proxy.log());
}

#[tokio::test]
async fn the_flag_takes_any_file() {
    let proxy = ProxyBuilder::new("allowed_domains = [\"a.test\"]")
        .flag("--insecure-policy-permissions")
        .start()
        .await;
    replace_writable(&proxy);
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while exchange(proxy.address, &connect_to("b.test")).await.status == 403 {
        assert!(tokio::time::Instant::now() < deadline, "{}", proxy.log());
    }
}

/// Root may mount, where it is not kept from it; others may not.
fn no_mounts(said: &str) {
    match rustix::process::geteuid().is_root() {
        true => skip(&format!("no mounts here: {said}")),
        false => skip_optional(&format!("no mounts but by root: {said}")),
    }
}

/// As Kubernetes mounts a map of files: everybody may write the directories, but the mount is read-only.
#[test]
fn a_read_only_mount_passes() {
    let stage = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o mode=0777 none \"$1\" && mkdir -m 777 \"$1/..v1\" && \
        printf '[experimental_network]\\nenabled = true\\n' > \"$1/..v1/requirements.toml\" && \
        ln -s ..v1 \"$1/..data\" && \
        ln -s ..data/requirements.toml \"$1/requirements.toml\" && \
        mount -o \"remount,$2\" \"$1\" || exit 99
        exec \"$3\" serve --listen 127.0.0.1:0 --audit off --requirements \"$1/requirements.toml\"";
    // How it starts, or with which code it does not.
    let start = |mode: &str| {
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(stage.path())
            .args([mode, env!("CARGO_BIN_EXE_exeat")])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        for line in lines {
            let ready = line.contains("listening on");
            said.push(line);
            if ready {
                child.kill().unwrap();
                break;
            }
        }
        (said.join("\n"), child.wait().unwrap().code())
    };
    let (said, code) = start("rw");
    if code != Some(78) {
        assert!(!said.contains("listening on"), "{said}");
        no_mounts(&said);
        return;
    }
    assert!(said.contains("(mode 0777) can be written by everyone"), "{said}");
    let (said, _) = start("ro");
    assert!(said.contains("listening on"), "{said}");
}

/// Whose link it is counts, not that it leads to where nobody can write.
#[test]
fn a_strangers_link_to_a_read_only_mount_is_not_taken() {
    let stage = tempfile::tempdir().unwrap();
    let script = "mkdir \"$1/sticky\" \"$1/mount\" && chmod 1777 \"$1/sticky\" && \
        mount -t tmpfs none \"$1/mount\" && \
        printf '[experimental_network]\\nenabled = true\\n' > \"$1/mount/p.toml\" && \
        mount -o remount,ro \"$1/mount\" && ln -s ../mount/p.toml \"$1/sticky/p.toml\" && \
        chown -h 4242 \"$1/sticky/p.toml\" || exit 99
        exec \"$2\" serve --listen 192.0.2.1:0 --allow-non-loopback --audit off \
            --requirements \"$1/sticky/p.toml\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(stage.path())
        .arg(env!("CARGO_BIN_EXE_exeat"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if !said.contains("exeat") {
        no_mounts(&said);
        return;
    }
    // An address that nobody here has: a start that takes the link ends there.
    assert!(said.contains("sticky/p.toml belongs to user 4242"), "{said}");
}
