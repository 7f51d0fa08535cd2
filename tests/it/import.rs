//! `exeat import`: files of other programs, what is printed, and exit codes.

use std::{
    fs::File,
    path::Path,
    process::{Command, Output},
};

fn import(from: &str, text: &str) -> (Output, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .args(["import", "--from", from])
        .arg(&path)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

/// What the policy decides about targets: `+` allows, `-` refuses.
fn decisions(policy: &str, targets: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("requirements.toml");
    std::fs::write(&path, policy).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .args(["check", "--requirements"])
        .arg(&path)
        .args(targets)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| if line.starts_with("allow ") { '+' } else { '-' }).collect()
}

#[test]
fn the_same_words_mean_what_they_meant() {
    let targets = ["example.com", "www.example.com", "a.b.example.com", "evil.example.com"];
    let srt = "{\"network\": {\"allowedDomains\": [\"example.com\"], \"deniedDomains\": []}}";
    let below = "{\"network\": {\"allowedDomains\": [\"*.example.com\"],\n\
                 \"deniedDomains\": [\"evil.example.com\"]}}";
    let gh_aw = "network:\n  allowed:\n    - example.com\n  blocked:\n    - evil.example.com\n";
    let squid = "acl a dstdomain .example.com\nacl b dstdomain .evil.example.com\n\
                 http_access deny b\nhttp_access allow a\nhttp_access deny all\n";
    let firewall = "for domain in \\\n  \"example.com\"; do\n  true\ndone\n";
    for (from, text, expected) in [
        ("srt", srt, "+---"),
        ("srt", below, "-++-"),
        ("gh-aw", gh_aw, "+++-"),
        ("squid", squid, "+++-"),
        ("squid", ".example.com\n", "++++"),
        ("init-firewall", firewall, "+---"),
        ("hosts", "0.0.0.0 evil.example.com\n", "----"),
    ] {
        let (output, policy, _) = import(from, text);
        assert_eq!(output.status.code(), Some(0), "{from}: {policy}");
        assert_eq!(decisions(&policy, &targets), expected, "{from}: {policy}");
    }
}

#[test]
fn what_is_left_out_is_said_twice_and_shows_in_the_exit_code() {
    let text = "{\"network\": {\"allowedDomains\": [\"a.test\",\n\"http://b.test\"],\n\
                \"deniedDomains\": [\"*:22\"]}}";
    let (output, policy, said) = import("srt", text);
    assert_eq!(output.status.code(), Some(1));
    for line in [
        "2: `http://b.test` is not allowed here: is a URL with a scheme",
        "3: `*:22` is NOT DENIED here: a port alone cannot be denied here",
    ] {
        assert!(policy.contains(&format!("#   {line}")), "{line}: {policy}");
        assert!(said.contains(&format!("file:{line}")), "{line}: {said}");
    }
    assert_eq!(import("srt", "no JSON").0.status.code(), Some(78));
    assert_eq!(import("nonsense", "").0.status.code(), Some(64));
    let missing = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .args(["import", "--from", "hosts", "/nonexistent"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(78));
}

/// The denies that were cut off would let hosts out.
#[test]
fn a_file_is_read_to_its_end_or_not_at_all() {
    const MAX_BYTES: usize = 64 << 20;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts");
    let last = "\n0.0.0.0 last.test\n";
    for (size, code) in [(MAX_BYTES, 0), (MAX_BYTES + 1, 78)] {
        let comment = "#".repeat(size - last.len());
        std::fs::write(&path, format!("{comment}{last}")).unwrap();
        let import = |file: &Path| {
            let mut import = Command::new(env!("CARGO_BIN_EXE_exeat"));
            import.args(["import", "--from", "hosts"]).arg(file);
            import.stdin(File::open(&path).unwrap()).output().unwrap()
        };
        for output in [import(&path), import("-".as_ref())] {
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{size}: {said}");
            let policy = String::from_utf8_lossy(&output.stdout);
            assert_eq!(policy.contains("last.test"), code == 0, "{size}: {policy}");
            assert_eq!(said.contains("larger than 64 MiB"), code != 0, "{size}: {said}");
        }
    }
}
