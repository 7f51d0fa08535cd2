//! pip and npm: installing from an index of the test's own, and being refused one.

use super::*;

/// Writes a wheel, without any tool but Python's own library.
const MAKE_WHEEL: &str = r#"
import sys, zipfile
info = "exeat_tiny-1.0.dist-info"
files = {
    "exeat_tiny.py": "ANSWER = 42\n",
    info + "/METADATA": "Metadata-Version: 2.1\nName: exeat-tiny\nVersion: 1.0\n",
    info + "/WHEEL": "Wheel-Version: 1.0\nGenerator: exeat\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
record = info + "/RECORD"
files[record] = "".join(name + ",,\n" for name in [*files, record])
with zipfile.ZipFile(sys.argv[2], "w") as wheel:
    for name, text in files.items():
        wheel.writestr(name, text)
"#;
const WHEEL: &str = "exeat_tiny-1.0-py3-none-any.whl";

/// Makes both origins a simple index with one wheel.
async fn make_index(stage: &Stage) {
    run(stage.python(MAKE_WHEEL, &[WHEEL])).await.succeeded();
    let wheel = fs::read(stage.path(WHEEL)).unwrap();
    for origin in [&stage.plain, &stage.tls.origin] {
        origin.answer_field("content-type", "text/html");
        origin.file(
            "/simple/exeat-tiny/",
            format!(
                "<!DOCTYPE html><html><body><a href=\"/files/{WHEEL}\">{WHEEL}</a></body></html>"
            ),
        );
        origin.file(&format!("/files/{WHEEL}"), wheel.clone());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_installs() {
    if !pip_installed().await {
        return;
    }
    let stage = Stage::set().await;
    make_index(&stage).await;
    for (origin, url, to) in [
        (&stage.plain, stage.http("ok.test", "/simple/"), "plain"),
        (&stage.tls.origin, stage.https("ok.test", "/simple/"), "tls"),
    ] {
        let mut command = stage.pip();
        command.args(["install", "--index-url", &url, "--target", to]);
        if to == "plain" {
            command.args(["--trusted-host", "ok.test"]);
        }
        command.arg("exeat-tiny");
        run(command).await.succeeded();
        let module = fs::read_to_string(stage.path(to).join("exeat_tiny.py")).unwrap();
        assert_eq!(module, "ANSWER = 42\n");
        let asked = asked(origin);
        assert_eq!(asked[0], "GET /simple/exeat-tiny/");
        assert!(asked.contains(&format!("GET /files/{WHEEL}")), "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_is_refused() {
    if !pip_installed().await {
        return;
    }
    let stage = Stage::set().await;
    make_index(&stage).await;
    for (url, protocol) in [
        (stage.http("no.test", "/simple/"), "http"),
        (stage.https("no.test", "/simple/"), "https_connect"),
    ] {
        let mut command = stage.pip();
        command.args(["-vv", "install", "--index-url", &url, "--target", "refused"]);
        command.arg("exeat-tiny");
        if protocol == "http" {
            command.args(["--trusted-host", "no.test"]);
        }
        let finished = run(command).await.failed();
        assert!(finished.said().contains(NOT_ALLOWED), "{}", finished.said());
        assert!(!stage.path("refused").join("exeat_tiny.py").exists());
        stage.refused("no.test", protocol).await;
    }
    stage.assert_untouched();
}

/// Makes an origin a registry with one package, whose tarball it serves as well.
async fn make_registry(stage: &Stage, origin: &Origin, base: &str) {
    let package = json!({ "name": "exeat-tiny", "version": "1.0.0", "main": "index.js" });
    fs::create_dir_all(stage.path("package")).unwrap();
    fs::write(stage.path("package/package.json"), package.to_string()).unwrap();
    fs::write(stage.path("package/index.js"), "module.exports = 42;\n").unwrap();
    let mut command = stage.npm("pack-cache");
    command.args(["pack", "--json", "./package"]);
    let packed = run(command).await.succeeded();
    let packed: Value = serde_json::from_slice(&packed.stdout).unwrap();
    let packed = packed.as_array().map_or(&packed["exeat-tiny"], |list| &list[0]);
    let mut version = package.clone();
    version["dist"] = json!({
        "tarball": format!("{base}/exeat-tiny/-/exeat-tiny-1.0.0.tgz"),
        "integrity": packed["integrity"],
        "shasum": packed["shasum"],
    });
    assert!(version["dist"]["integrity"].is_string(), "npm checks what it gets: {packed}");
    let packument = json!({
        "name": "exeat-tiny",
        "dist-tags": { "latest": "1.0.0" },
        "versions": { "1.0.0": version },
    });
    origin.file("/exeat-tiny", packument.to_string());
    let tarball = fs::read(stage.path("exeat-tiny-1.0.0.tgz")).unwrap();
    origin.file("/exeat-tiny/-/exeat-tiny-1.0.0.tgz", tarball);
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_installs() {
    if !npm_installed().await {
        return;
    }
    let stage = Stage::set().await;
    for (origin, url, to) in [
        (&stage.plain, stage.http("ok.test", ""), "plain"),
        (&stage.tls.origin, stage.https("ok.test", ""), "tls"),
    ] {
        make_registry(&stage, origin, &url).await;
        let mut command = stage.npm(&format!("{to}-cache"));
        command.arg("install").arg(format!("--registry={url}/"));
        command.arg("--prefix").arg(stage.path(to)).arg("exeat-tiny");
        run(command).await.succeeded();
        let installed = stage.path(to).join("node_modules/exeat-tiny/index.js");
        assert_eq!(fs::read_to_string(installed).unwrap(), "module.exports = 42;\n");
        assert_eq!(asked(origin), ["GET /exeat-tiny", "GET /exeat-tiny/-/exeat-tiny-1.0.0.tgz"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_is_refused() {
    if !npm_installed().await {
        return;
    }
    let stage = Stage::set().await;
    for (origin, url, protocol) in [
        (&stage.plain, stage.http("no.test", ""), "http"),
        (&stage.tls.origin, stage.https("no.test", ""), "https_connect"),
    ] {
        make_registry(&stage, origin, &url).await;
        let mut command = stage.npm("refused-cache");
        command.arg("install").arg(format!("--registry={url}/"));
        command.arg("--prefix").arg(stage.path("refused")).arg("exeat-tiny");
        let finished = run(command).await.failed();
        assert!(finished.said().contains("E403"), "{}", finished.said());
        assert!(finished.said().contains(NOT_ALLOWED), "{}", finished.said());
        assert!(!stage.path("refused/node_modules/exeat-tiny").exists());
        stage.refused("no.test", protocol).await;
    }
    stage.assert_untouched();
}
