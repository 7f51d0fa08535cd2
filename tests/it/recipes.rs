//! What `config/` offers to copy beside policies: each is read as its own program reads it, and
//! what it starts is started.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::support::skip_optional;

const UNIT: &str = include_str!("../../config/systemd/exeat.service");

/// A proxy that was started as a recipe does it. Ended when dropped.
struct Started {
    child: Child,
    address: String,
}

impl Drop for Started {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs the program with the arguments and variables of a recipe, its paths moved into `directory`
/// and its port free, until it listens.
fn start(directory: &Path, arguments: &[&str], variables: &[(String, String)]) -> Started {
    let policy = directory.join("requirements.toml");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/config/requirements.toml"), &policy)
        .unwrap();
    let moved = |argument: &&str| match *argument {
        "/etc/codex/requirements.toml" => policy.display().to_string(),
        "/var/log/exeat/audit.jsonl" => directory.join("audit.jsonl").display().to_string(),
        other => other.replace(":3128", ":0"),
    };
    let child = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .env_clear()
        // On loopback: a test is nobody else's business.
        .envs(
            variables
                .iter()
                .map(|(name, value)| (name, value.replace("0.0.0.0:3128", "127.0.0.1:0"))),
        )
        .args(arguments.iter().map(moved))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut started = Started { child, address: String::new() };
    let stderr = BufReader::new(started.child.stderr.take().unwrap());
    let mut said = String::new();
    for line in stderr.lines().map_while(Result::ok) {
        if let Some((_, rest)) = line.split_once("listening on http://") {
            rest.split(';').next().unwrap().clone_into(&mut started.address);
            return started;
        }
        said.push_str(&line);
        said.push('\n');
    }
    panic!("it does not listen: {said}");
}

fn is_healthy(started: &Started) -> bool {
    let health = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .args(["health", "--proxy", &format!("http://{}", started.address)])
        .output()
        .unwrap();
    health.status.success()
}

/// The value of a key that stands once.
fn value<'t>(unit: &'t str, key: &str) -> &'t str {
    let values: Vec<&str> =
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values[0]
}

#[test]
fn the_service_starts_what_it_says() {
    let words: Vec<&str> = value(UNIT, "ExecStart").split_whitespace().collect();
    let (program, arguments) = words.split_first().unwrap();
    assert_eq!(*program, "/usr/local/bin/exeat");
    let directory = tempfile::tempdir().unwrap();
    let started = start(directory.path(), arguments, &[]);
    assert!(is_healthy(&started));
    assert!(directory.path().join("audit.jsonl").exists());
    for (key, expected) in [("DynamicUser", "yes"), ("CapabilityBoundingSet", ""), ("Type", "exec")]
    {
        assert_eq!(value(UNIT, key), expected, "{key}");
    }
}

#[test]
fn systemd_reads_the_service() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("exeat.service");
    // What is not installed here would be complained about.
    let unit = UNIT.replace("/usr/local/bin/exeat", env!("CARGO_BIN_EXE_exeat"));
    let documented = |line: &&str| !line.starts_with("Documentation=");
    let unit: Vec<&str> = unit.lines().filter(documented).collect();
    std::fs::write(&path, unit.join("\n") + "\n").unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let about_it: Vec<&str> = said.lines().filter(|line| line.contains("exeat")).collect();
            assert!(about_it.is_empty(), "{about_it:?}");
        }
        Err(error) => skip_optional(&format!("no systemd-analyze ({error})")),
    }
}

/// A YAML file as JSON; none, if there is nothing here that reads it.
fn yaml(path: &str) -> Option<Value> {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    match Command::new("python3").args(["-c", "import yaml"]).output() {
        Ok(output) if output.status.success() => {}
        Ok(_) | Err(_) => {
            skip_optional("no Python with yaml");
            return None;
        }
    }
    let output = Command::new("python3").args(["-c", script, &path]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn the_composed_agent_has_no_other_way_out() {
    let Some(compose) = yaml("config/compose/compose.yaml") else { return };
    let (exeat, agent) = (&compose["services"]["exeat"], &compose["services"]["agent"]);
    assert_eq!(strings(&agent["networks"]), ["inside"]);
    assert_eq!(compose["networks"]["inside"]["internal"], true);
    assert_eq!(strings(&exeat["networks"]), ["inside", "outside"]);
    assert!(compose["networks"]["outside"]["internal"].is_null());
    for service in [exeat, agent] {
        assert_eq!(strings(&service["cap_drop"]), ["ALL"]);
        assert!(service["privileged"].is_null() && service["network_mode"].is_null());
    }
    assert_eq!(
        (&exeat["read_only"], &exeat["volumes"][0]["read_only"]),
        (&true.into(), &true.into())
    );
    // It would be a router.
    assert_eq!(exeat["sysctls"]["net.ipv4.ip_forward"], "0");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        assert_eq!(agent["environment"][name], "http://exeat:3128");
    }
    assert_eq!(strings(&exeat["healthcheck"]["test"]), ["CMD", "/exeat", "health"]);

    let variables = exeat["environment"].as_object().unwrap();
    let variables: Vec<(String, String)> = variables
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let started = start(directory.path(), &strings(&exeat["command"]), &variables);
    assert!(is_healthy(&started));
    assert_eq!(exeat["environment"]["EXEAT_LISTEN"], "0.0.0.0:3128");
}
