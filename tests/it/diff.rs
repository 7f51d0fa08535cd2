//! `exeat diff`: what changes from one policy file to another, and its exit codes.

use std::process::{Command, Output};

use serde_json::{Value, json};

const OLD: &str = "[experimental_network]\nenabled = true\nhttp_port = 3128\n\
    allowed_domains = [\"**.a.test\", \"b.test\", \"c.test:8443\"]\n";
const NEW: &str = "[experimental_network]\nenabled = true\nallow_local_binding = true\n\
    allowed_domains = [\"c.test\", \"*\"]\ndenied_domains = [\"b.test\", \"*.a.test\"]\n";

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Self { directory }
    }

    fn diff(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_exeat"))
            .current_dir(self.directory.path())
            .arg("diff")
            .args(arguments)
            .output()
            .unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn people_are_told_what_changes() {
    let files = Files::new(&[("old.toml", OLD), ("new.toml", NEW)]);
    let output = files.diff(&["old.toml", "new.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    for line in [
        "keys",
        "  allow_local_binding: unset -> true",
        "  http_port: 3128 -> unset",
        "rules",
        "  - allow **.a.test (old.toml:4)",
        "  ! allow -> deny b.test (old.toml:4 -> new.toml:5)",
        "  + allow c.test (new.toml:4)",
        "leave",
        "  loses any.a.test, for *.a.test: was allowed by **.a.test (old.toml:4), is denied by *.a.test (new.toml:5)",
        "  gains c.test on its other ports: was port_not_allowed by c.test:8443 (old.toml:4), is allowed by c.test (new.toml:4)",
        "  gains any.elsewhere, for every other name: was not_allowed, is allowed by * (new.toml:4)",
        "  gains 10.11.12.13, for private addresses: was not_allowed_local, is allowed by * (new.toml:4)",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn scripts_are_told_the_same() {
    let files = Files::new(&[("old.toml", OLD), ("new.toml", NEW)]);
    let output = files.diff(&["--json", "old.toml", "new.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["same"], &report["old"]), (&json!(false), &json!("old.toml")));
    assert_eq!(
        report["keys"],
        json!([
            { "key": "allow_local_binding", "old": null, "new": "true" },
            { "key": "http_port", "old": "3128", "new": null },
        ])
    );
    let rules = report["rules"].as_array().unwrap();
    let turned = rules.iter().find(|rule| rule["change"] == "turned").unwrap();
    assert_eq!(turned["pattern"], "b.test");
    assert_eq!((&turned["old"]["list"], &turned["new"]["list"]), (&json!("allow"), &json!("deny")));
    assert_eq!(turned["new"]["line"], 5);
    let leave = report["leave"].as_array().unwrap();
    let of = |host: &str| leave.iter().find(|change| change["host"] == host).unwrap();
    assert_eq!((&of("b.test")["change"], &of("b.test")["ports"]), (&json!("loses"), &json!("all")));
    assert_eq!(of("c.test")["ports"], "others");
    assert_eq!(of("any.a.test")["stands_for"], "*.a.test");
    assert_eq!(of("any.a.test")["new"]["reason"], "denied");
    assert_eq!(of("any.a.test")["new"]["rule"]["pattern"], "*.a.test");
}

#[test]
fn exit_codes() {
    let same = "# In other words.\n[experimental_network]\nhttp_port = 0xc38\nenabled = true\n\
        [experimental_network.domains]\n\"c.test:8443\" = \"allow\"\n\"B.test.\" = \"allow\"\n\
        \"**.a.test\" = \"allow\"\n";
    let files = Files::new(&[
        ("old.toml", OLD),
        ("same.toml", same),
        ("broken.toml", "[experimental_network]\ndeny_domains = []\n"),
        ("none.toml", "sandbox_mode = \"read-only\"\n"),
    ]);
    let output = files.diff(&["old.toml", "same.toml"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "nothing differs\n"));
    for broken in ["broken.toml", "none.toml", "/nonexistent"] {
        for arguments in [["old.toml", broken], [broken, "old.toml"]] {
            let output = files.diff(&arguments);
            assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(78), ""));
            assert!(String::from_utf8_lossy(&output.stderr).contains(broken));
        }
    }
    assert_eq!(files.diff(&["old.toml"]).status.code(), Some(64));
}

#[test]
fn other_rules_may_come_to_the_same() {
    let split = OLD.replace("\"**.a.test\"", "\"a.test\", \"*.a.test\"");
    let files = Files::new(&[("old.toml", OLD), ("new.toml", split.as_str())]);
    let output = files.diff(&["old.toml", "new.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.ends_with("no host gains or loses leave\n") && text.contains("+ allow *.a.test"));
}
