//! The feature and the template for dev containers.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use super::{EXEAT, ROOT, compose, is_healthy, listening, text, yaml};

const FEATURE: &str = "devcontainer/feature/exeat";
const TEMPLATE: &str = "devcontainer/template/exeat";

fn json(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Copies the feature, as tools do before they install it.
fn unpack(to: &Path) {
    for name in ["install.sh", "start.sh"] {
        fs::copy(format!("{ROOT}/config/{FEATURE}/{name}"), to.join(name)).unwrap();
    }
}

fn install(feature: &Path, options: &[(&str, &str)]) -> Output {
    Command::new("sh")
        .arg(feature.join("install.sh"))
        .env("DESTDIR", feature.join("root"))
        .envs(options.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn the_feature_starts_the_proxy_that_its_variables_name() {
    let feature = json(&format!("{FEATURE}/devcontainer-feature.json"));
    assert_eq!(feature["id"], "exeat");
    assert_eq!(feature["version"], env!("CARGO_PKG_VERSION"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        assert_eq!(feature["containerEnv"][name], "http://127.0.0.1:3128");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    unpack(path);
    fs::copy(EXEAT, path.join("exeat")).unwrap();
    let installed = install(path, &[]);
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let entrypoint = feature["entrypoint"].as_str().unwrap();
    let start = path.join("root").join(entrypoint.trim_start_matches('/'));
    let log = path.join("exeat.log");
    // What the container runs: it waits for the proxy, and ends when it is told.
    let mut child = Command::new(start)
        .args(["sh", "-c", "read -r end"])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", path.join("root/usr/local/bin").display()))
        .env("EXEAT_LISTEN", "127.0.0.1:0")
        .env("EXEAT_START_LOG", &log)
        .env("EXEAT_PRESET", "agent")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let address = loop {
        let said = fs::read_to_string(&log).unwrap_or_default();
        if let Some(address) = listening(&said).filter(|_| said.ends_with('\n')) {
            break address.to_owned();
        }
        assert!(child.try_wait().unwrap().is_none(), "{said}");
        std::thread::yield_now();
    };
    assert!(is_healthy(&address));
    drop(child.stdin.take());
    child.wait().unwrap();
    let proxy = proxy_of(&path.join("root/usr/local/bin/exeat"));
    assert_eq!(proxy.len(), 1, "{proxy:?}");
    crate::support::signal(proxy[0], "TERM");
}

/// The processes that run a program.
fn proxy_of(program: &Path) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program))
        .collect()
}

#[test]
fn the_feature_takes_only_what_has_the_right_sum() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    unpack(path);
    let options = json(&format!("{FEATURE}/devcontainer-feature.json"))["options"].clone();
    let mut names: Vec<_> = options.as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["sha256", "url"]);
    fs::write(path.join("program"), "hello").unwrap();
    let url = format!("file://{}/program", path.display());
    let right = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let wrong = right.replace('2', "3");
    for (options, said) in [
        (vec![], "put the program beside install.sh"),
        (vec![("URL", url.as_str())], "sha256 is needed"),
        (vec![("URL", url.as_str()), ("SHA256", &wrong)], "not what sha256 says"),
    ] {
        let output = install(path, &options);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.contains(said)), (Some(1), true), "{stderr}");
        assert!(!path.join("root/usr/local/bin/exeat").exists());
    }
    if Command::new("curl").arg("--version").output().is_err() {
        crate::support::skip("curl is not installed");
        return;
    }
    let output = install(path, &[("URL", &url), ("SHA256", right)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(path.join("root/usr/local/bin/exeat")).unwrap(), b"hello");
}

#[test]
fn the_template_has_no_other_way_out() {
    let template = json(&format!("{TEMPLATE}/devcontainer-template.json"));
    assert_eq!(template["version"], env!("CARGO_PKG_VERSION"));
    let container = json(&format!("{TEMPLATE}/.devcontainer/devcontainer.json"));
    let file = container["dockerComposeFile"].as_str().unwrap();
    let path = format!("{TEMPLATE}/.devcontainer/{file}");
    let service = container["service"].as_str().unwrap();
    let composed = yaml(&path);
    compose::check(&composed, service);
    let dev = &composed["services"][service];
    assert_eq!(dev["image"], "${templateOption:image}");
    assert!(template["options"]["image"]["default"].is_string());
    // Who works there cannot write what may leave, nor how the containers are made.
    let folder = container["workspaceFolder"].as_str().unwrap();
    let volumes = super::strings(&dev["volumes"]);
    assert_eq!(volumes, [format!("..:{folder}:cached"), format!(".:{folder}/.devcontainer:ro")]);
    let policy = format!("{ROOT}/config/{TEMPLATE}/.devcontainer/requirements.toml");
    let output = Command::new(EXEAT).args(["validate", "--strict", &policy]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
