//! The command line: output, JSON and exit codes that other people's scripts rely on.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn exeat(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_exeat"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("EXEAT_REQUIREMENTS")
        .env_remove("EXEAT_PRESET")
        .env_remove("EXEAT_SETTINGS")
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const SEED: &str = "config/requirements.toml";

#[test]
fn the_seed_policy() {
    let targets = [
        ("api.openai.com", "allow", Some(("api.openai.com", 8))),
        ("a.b.example.com", "allow", Some(("*.example.com", 9))),
        ("blocked.example.com", "deny", Some(("blocked.example.com", 12))),
        ("x.exfil.example.com", "deny", Some(("*.exfil.example.com", 13))),
        ("example.com", "deny", None),
        ("openai.com", "deny", None),
        ("api.openai.com.evil.test", "deny", None),
    ];
    let mut arguments = vec!["check", "--json", "--requirements", SEED];
    arguments.extend(targets.iter().map(|(target, ..)| target));
    let output = exeat(&arguments);
    assert_eq!(output.status.code(), Some(1));
    for (line, (target, decision, rule)) in json_lines(&output).iter().zip(targets) {
        assert_eq!(line["target"], target);
        assert_eq!((&line["host"], &line["port"]), (&target.into(), &443.into()));
        assert_eq!(line["decision"], decision, "{target}");
        match rule {
            Some((pattern, number)) => {
                assert_eq!(line["rule"]["pattern"], pattern);
                assert_eq!(line["rule"]["line"], number);
                assert_eq!(line["rule"]["file"], SEED);
                assert_eq!(line["rule"]["list"], decision);
            }
            None => assert!(line["rule"].is_null() && line["reason"] == "not_allowed"),
        }
    }
    // For people, a refusal that no rule made names the line of the list that does not help.
    let text = stdout(&exeat(&["check", "--requirements", SEED, "example.com"]));
    assert!(text.contains("not_allowed") && text.contains("requirements.toml:7"), "{text}");
}

#[test]
fn check_targets_and_exit_codes() {
    let check = |target: &str| exeat(&["check", "--json", "--requirements", SEED, target]);
    for (target, host, port, decision) in [
        ("https://api.openai.com/v1/x?y", "api.openai.com", 443, "allow"),
        ("http://a.example.com", "a.example.com", 80, "allow"),
        ("A.Example.COM.:8080", "a.example.com", 8080, "allow"),
        ("::1", "::1", 443, "deny"),
        ("[::ffff:10.0.0.1]:22", "10.0.0.1", 22, "deny"),
    ] {
        let output = check(target);
        let line = &json_lines(&output)[0];
        assert_eq!(line["host"], host, "{target}");
        assert_eq!(line["port"], port, "{target}");
        assert_eq!(line["decision"], decision, "{target}");
        let code = if decision == "allow" { 0 } else { 1 };
        assert_eq!(output.status.code(), Some(code));
    }
    for target in ["a b", "ftp://x.test", "http://u@x.test/", "0x7f.1", "x.test:0", ""] {
        let output = check(target);
        let line = &json_lines(&output)[0];
        assert_eq!((&line["decision"], output.status.code()), (&"invalid".into(), Some(1)));
        assert!(line["rule"].is_null() && line["host"].is_null());
    }
    assert_eq!(exeat(&["check"]).status.code(), Some(64));
    assert_eq!(exeat(&["check", "--nonsense", "x.test"]).status.code(), Some(64));
    assert_eq!(exeat(&["check", "--requirements", "/nonexistent", "x"]).status.code(), Some(78));
    assert_eq!(exeat(&["--help"]).status.code(), Some(0));
    assert_eq!(exeat(&["--version"]).status.code(), Some(0));
}

#[test]
fn check_reads_stdin_to_its_end() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["check", "--json", "--requirements", SEED, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || {
        for number in 0..20_000 {
            writeln!(stdin, "h{number}.example.com\r").unwrap();
        }
        stdin.write_all(b"\n\nblocked.example.com").unwrap();
    });
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 20_001);
    assert!(lines[..20_000].iter().all(|line| line["decision"] == "allow"));
    assert_eq!(lines[20_000]["decision"], "deny");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_policy_that_is_none_decides_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("requirements.toml");
    std::fs::write(&path, "sandbox_mode = \"read-only\"\n[mcp]\nx = 1\n").unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(exeat(&["check", "--requirements", path, "x.test"]).status.code(), Some(78));
    assert_eq!(exeat(&["serve", "--requirements", path]).status.code(), Some(78));
    let output = exeat(&["validate", "--json", path]);
    assert_eq!(output.status.code(), Some(0));
    let report = &json_lines(&output)[0];
    assert_eq!(report["ok"], true);
    assert_eq!(report["problems"][0]["severity"], "warning");
    assert_eq!(report["ignored"], serde_json::json!(["sandbox_mode", "mcp"]));
}

#[test]
fn validate_reports_everything_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("requirements.toml");
    let text = "[experimental_network]\nenabled = \"yes\"\ndeny_domains = [\"x.test\"]\n\
                allowed_domains = [\"https://a.test\", \"b.test\"]\nsomething_new = 1\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let output = exeat(&["validate", "--json", path]);
    assert_eq!(output.status.code(), Some(78));
    let report = &json_lines(&output)[0];
    assert_eq!((&report["ok"], &report["file"]), (&false.into(), &path.into()));
    let problems: Vec<(u64, u64, String)> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| {
            (
                problem["line"].as_u64().unwrap(),
                problem["column"].as_u64().unwrap(),
                problem["severity"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let at = |line, column, severity: &str| (line, column, severity.to_owned());
    assert_eq!(
        problems,
        [at(2, 11, "error"), at(3, 1, "error"), at(4, 20, "error"), at(5, 1, "warning")]
    );
    let help = report["problems"][1]["help"].as_str().unwrap();
    assert!(help.contains("denied_domains"), "{help}");
    let drawn = stderr(&exeat(&["validate", path]));
    assert!(drawn.contains("requirements.toml:3:1") && drawn.contains("^^^^"), "{drawn}");
}

#[test]
fn a_misspelt_or_forgotten_table_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("requirements.toml");
    for (text, cure) in [
        ("[experimental_netwrok]\ndenied_domains = [\"x.test\"]\n", "experimental_network"),
        ("denied_domains = [\"x.test\"]\n", "[experimental_network]"),
    ] {
        std::fs::write(&path, text).unwrap();
        let output = exeat(&["validate", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(78));
        assert!(stderr(&output).contains(cure), "{}", stderr(&output));
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_policy_to_serve() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let output = exeat(&["serve", "--requirements", pipe.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("not a regular file"), "{}", stderr(&output));
}

#[test]
fn strict_takes_warnings_for_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("requirements.toml");
    std::fs::write(&path, "[experimental_network]\nenabled = true\nsomething_new = 1\n").unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(exeat(&["validate", path]).status.code(), Some(0));
    assert_eq!(exeat(&["validate", "--strict", path]).status.code(), Some(78));
    assert_eq!(exeat(&["validate", path, "/nonexistent"]).status.code(), Some(78));
}

#[test]
fn presets_are_listed_printed_and_sound() {
    let listed = stdout(&exeat(&["preset"]));
    assert!(listed.starts_with("agent "), "{listed}");
    let printed = exeat(&["preset", "agent"]);
    assert_eq!(stdout(&printed), include_str!("../../config/presets/agent.toml"));
    assert_eq!(exeat(&["preset", "nonsense"]).status.code(), Some(64));
    let strict = exeat(&["validate", "--strict", "config/presets/agent.toml", SEED]);
    assert_eq!(strict.status.code(), Some(0), "{}", stderr(&strict));
    let check = |target| exeat(&["check", "--preset", "agent", target]).status.code();
    for target in ["github.com", "registry.npmjs.org", "files.pythonhosted.org", "api.openai.com"] {
        assert_eq!(check(target), Some(0), "{target}");
    }
    assert_eq!(check("pastebin.com"), Some(1));
}

#[test]
fn no_policy_names_all_the_ways_to_give_one() {
    let output = exeat(&["serve"]);
    assert_eq!(output.status.code(), Some(78));
    for way in
        ["--requirements", "EXEAT_REQUIREMENTS", "/etc/codex/requirements.toml", "--preset agent"]
    {
        assert!(stderr(&output).contains(way), "{}", stderr(&output));
    }
}

#[test]
fn listening_beyond_loopback_must_be_wanted() {
    let output = exeat(&["serve", "--preset", "agent", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("--allow-non-loopback"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("requirements.toml");
    let text =
        "[experimental_network]\nenabled = true\ndangerously_allow_non_loopback_proxy = false\n";
    std::fs::write(&path, text).unwrap();
    let output = exeat(&[
        "serve",
        "--requirements",
        path.to_str().unwrap(),
        "--listen",
        "0.0.0.0:0",
        "--allow-non-loopback",
    ]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("dangerously_allow_non_loopback_proxy = false"));
}

#[test]
fn settings_with_unknown_keys_stop_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("exeat.toml");
    std::fs::write(&path, "[listen]\nhtpp = \"127.0.0.1:0\"\n").unwrap();
    let output = exeat(&["serve", "--preset", "agent", "--settings", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("the nearest key is `http`"), "{}", stderr(&output));
    std::fs::write(&path, "[limits]\nhead_fields = 4000000000\n").unwrap();
    let output = exeat(&["serve", "--preset", "agent", "--settings", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("from 1 to 1000"), "{}", stderr(&output));
}

#[tokio::test]
async fn health_asks_a_running_proxy() {
    let proxy = crate::support::ProxyBuilder::new("").start().await;
    let url = proxy.url();
    let output =
        tokio::task::spawn_blocking(move || exeat(&["health", "--proxy", &url])).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(json_lines(&output)[0]["status"], "ok");
    drop(proxy);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = exeat(&["health", "--proxy", &format!("http://{free}")]);
    assert_eq!(output.status.code(), Some(1));
}
