//! The actions for GitHub: their scripts are run as a runner does, with its files and variables.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use super::{EXEAT, listening, yaml};
use crate::support::{Origin, ProxyBuilder, exchange, get, signal};

/// Runs the one step of an action, with inputs beside its defaults.
fn step(action: &str, inputs: &[(&str, &str)], runner: &Path) -> Output {
    let action = yaml(&format!("github-action/{action}/action.yml"));
    assert_eq!(action["runs"]["using"], "composite");
    let steps = action["runs"]["steps"].as_array().unwrap();
    let [step] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!(step["shell"], "bash");
    for (name, _) in inputs {
        assert!(action["inputs"][name].is_object(), "{name} is no input");
    }
    let script = step["run"].as_str().unwrap();
    // What the runner would put into the text could be anything; variables are only values.
    assert!(!script.contains("${{"), "{script}");
    let given = |value: &Value| {
        let value = value.as_str().unwrap();
        let name = value.strip_prefix("${{ inputs.").unwrap().strip_suffix(" }}").unwrap();
        let given = inputs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        given.unwrap_or_else(|| action["inputs"][name]["default"].as_str().unwrap()).to_owned()
    };
    let variables = step["env"].as_object().unwrap().iter();
    let mut command = Command::new("bash");
    command
        .args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(variables.map(|(name, value)| (name, given(value))))
        .env("RUNNER_TEMP", runner)
        .env("GITHUB_WORKSPACE", runner)
        .env("EXEAT_SETTINGS", runner.join("exeat.toml"))
        .stdin(Stdio::null());
    for file in ["GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"] {
        command.env(file, runner.join(file));
    }
    command.output().unwrap()
}

/// The process that a proxy of a step is; nobody else ends it.
struct Left(u32);

impl Drop for Left {
    fn drop(&mut self) {
        signal(self.0, "KILL");
    }
}

impl Left {
    fn of(audit: &Path) -> Self {
        let names_audit = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains(&audit.display().to_string()))
        };
        let pids = fs::read_dir("/proc").unwrap();
        let mut pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Self(pids.find(names_audit).expect("a proxy that runs"))
    }
}

#[tokio::test]
async fn it_starts_and_sums_up() {
    let origin = Origin::start().await;
    for (mode, status, suggested) in [("enforce", 403, None), ("observe", 200, Some("other.test"))]
    {
        let directory = tempfile::tempdir().unwrap();
        let runner = directory.path();
        let policy = "[experimental_network]\nenabled = true\nallowed_domains = [\"a.test\"]\n\
                      denied_domains = [\"denied.test\"]\n";
        fs::write(runner.join("requirements.toml"), policy).unwrap();
        let settings = ProxyBuilder::default().local("other.test").settings_text();
        fs::write(runner.join("exeat.toml"), settings).unwrap();
        let inputs = [("mode", mode), ("requirements", "requirements.toml"), ("exeat", EXEAT)];
        let output = step("start", &inputs, runner);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let _proxy = Left::of(&runner.join("exeat/audit.jsonl"));

        let log = fs::read_to_string(runner.join("exeat/log")).unwrap();
        let address = listening(&log).unwrap();
        let url = format!("http://{address}");
        let outputs = fs::read_to_string(runner.join("GITHUB_OUTPUT")).unwrap();
        assert_eq!(outputs, format!("proxy={url}\n"));
        let variables = fs::read_to_string(runner.join("GITHUB_ENV")).unwrap();
        for line in [format!("HTTPS_PROXY={url}"), format!("http_proxy={url}"), "NO_PROXY=".into()]
        {
            assert!(variables.lines().any(|set| set == line), "{line}: {variables}");
        }
        let ssh = variables.lines().find(|line| line.starts_with("GIT_SSH_COMMAND=")).unwrap();
        assert!(ssh.ends_with(" -o ControlMaster=no -o ControlPath=none"), "{ssh}");

        let address = address.parse().unwrap();
        for (host, expected) in [("other.test", status), ("denied.test", 403)] {
            let answer = exchange(address, &get(host, origin.port())).await;
            assert_eq!(answer.status, expected, "{mode} {host}");
        }
        let summed = crate::support::eventually("the records in the summary", || {
            fs::remove_file(runner.join("GITHUB_STEP_SUMMARY")).ok();
            let output = step("summary", &[("exeat", EXEAT)], runner);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let summary = fs::read_to_string(runner.join("GITHUB_STEP_SUMMARY")).unwrap();
            (summary.contains("other.test") && summary.contains("denied.test")).then_some(summary)
        })
        .await;
        assert!(summed.starts_with("### exeat: "), "{summed}");
        let fenced = summed.split("```toml\n").nth(1).unwrap();
        let table: toml::Table = fenced.strip_suffix("```\n").unwrap().parse().unwrap();
        let allowed = table["experimental_network"]["allowed_domains"].as_array().unwrap();
        let allowed: Vec<_> = allowed.iter().map(|pattern| pattern.as_str().unwrap()).collect();
        let expected = suggested.map(|host| format!("{host}:{}", origin.port()));
        assert_eq!(allowed, expected.iter().collect::<Vec<_>>(), "{summed}");
    }
}

#[test]
fn a_policy_that_is_wrong_fails_the_step() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("requirements.toml"), "[experimental_network").unwrap();
    fs::write(directory.path().join("exeat.toml"), "").unwrap();
    let inputs = [("requirements", "requirements.toml"), ("exeat", EXEAT)];
    let output = step("start", &inputs, directory.path());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("requirements.toml"), "{said}");
}
