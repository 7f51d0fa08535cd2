//! What `config/` offers to copy beside policies: each is read as its own program reads it, and
//! what it starts is started.

mod commands;
mod compose;
mod devcontainer;
mod github_action;
mod kubernetes;
mod systemd;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

const EXEAT: &str = env!("CARGO_BIN_EXE_exeat");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A file of a recipe: where it is in its container, and what it says.
type Mounted<'a> = (&'a str, &'a str);

/// The policy of recipes that bring none.
const POLICY: Mounted<'static> =
    ("/etc/codex/requirements.toml", include_str!("../../../config/requirements.toml"));

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
fn start(
    directory: &Path,
    arguments: &[&str],
    variables: &[(String, String)],
    mounted: &[Mounted<'_>],
) -> Started {
    let moved_path = |path: &str| directory.join(path.trim_start_matches('/').replace('/', "-"));
    for (path, text) in mounted {
        fs::write(moved_path(path), text).unwrap();
    }
    let moved = |argument: &&str| match *argument {
        "/var/log/exeat/audit.jsonl" => directory.join("audit.jsonl").display().to_string(),
        path if mounted.iter().any(|(known, _)| *known == path) => {
            moved_path(path).display().to_string()
        }
        other => {
            assert!(!other.starts_with('/'), "{other} is nowhere");
            other.replace(":3128", ":0")
        }
    };
    let child = Command::new(EXEAT)
        .env_clear()
        // On loopback: a test is nobody else's business.
        .envs(variables.iter().map(|(name, value)| {
            let value = value.replace("0.0.0.0:3128", "127.0.0.1:0").replace(":3128", ":0");
            (name, value)
        }))
        .args(arguments.iter().map(moved))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut started = Started { child, address: String::new() };
    let stderr = BufReader::new(started.child.stderr.take().unwrap());
    let mut said = String::new();
    for line in stderr.lines().map_while(Result::ok) {
        if let Some(address) = listening(&line) {
            address.clone_into(&mut started.address);
            return started;
        }
        said.push_str(&line);
        said.push('\n');
    }
    panic!("it does not listen: {said}");
}

/// Where a proxy says that it listens.
fn listening(said: &str) -> Option<&str> {
    said.split_once("listening on http://")?.1.split(';').next()
}

fn is_healthy(address: &str) -> bool {
    let health = Command::new(EXEAT)
        .args(["health", "--proxy", &format!("http://{address}")])
        .output()
        .unwrap();
    health.status.success()
}

fn text(path: &str) -> String {
    fs::read_to_string(format!("{ROOT}/config/{path}")).unwrap()
}

/// A YAML file as JSON.
fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// A table of texts.
fn pairs(table: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    table.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
}
