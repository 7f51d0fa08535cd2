//! Python: urllib and, where it can be imported, requests.

use super::*;

/// Gets URLs; what was refused is told on stderr and by the status.
const URLLIB: &str = r#"
import ssl, sys, urllib.error, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
for url in sys.argv[2:]:
    try:
        with urllib.request.urlopen(url, timeout=30, context=context) as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code} {error.reason} {error.headers['x-proxy-error']} {error.read()}")
    except urllib.error.URLError as error:
        sys.exit(f"URLError {error}")
"#;
const REQUESTS: &str = r#"
import requests, sys
with requests.Session() as session:
    session.verify = sys.argv[1]
    for url in sys.argv[2:]:
        try:
            answer = session.get(url, timeout=30)
        except requests.exceptions.ProxyError as error:
            sys.exit(f"ProxyError {error}")
        if not answer.ok:
            sys.exit(f"{answer.status_code} {answer.reason} {answer.headers['x-proxy-error']} {answer.content}")
        print(answer.status_code, answer.text)
"#;

/// Both kinds of origin, two URLs each.
async fn python_gets(script: &str) {
    let stage = Stage::set().await;
    for (origin, url) in
        [(&stage.plain, stage.http("ok.test", "")), (&stage.tls.origin, stage.https("ok.test", ""))]
    {
        origin.file("/first", "hello");
        origin.file("/second", "hello again");
        let urls = [format!("{url}/first?a=b"), format!("{url}/second")];
        let finished = run(stage.python(script, &[&urls[0], &urls[1]])).await.succeeded();
        assert_eq!(finished.text().replace('\r', ""), "200 hello\n200 hello again\n");
        assert_eq!(asked(origin), ["GET /first?a=b", "GET /second"]);
    }
}

/// What a script says about a refused request, and about a refused tunnel.
async fn python_is_refused(script: &str) -> [String; 2] {
    let stage = Stage::set().await;
    let plain = run(stage.python(script, &[&stage.http("no.test", "/")])).await.failed();
    stage.refused("no.test", "http").await;
    let tunnel = run(stage.python(script, &[&stage.https("no.test", "/")])).await.failed();
    stage.refused("no.test", "https_connect").await;
    stage.assert_untouched();
    [plain.stderr, tunnel.stderr]
}

#[tokio::test(flavor = "multi_thread")]
async fn urllib_gets_what_is_allowed() {
    if python_installed().await {
        python_gets(URLLIB).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn urllib_raises_the_reason() {
    if !python_installed().await {
        return;
    }
    let [plain, tunnel] = python_is_refused(URLLIB).await;
    let start = format!("403 {NOT_ALLOWED} blocked-by-allowlist ");
    assert!(plain.starts_with(&start) && plain.contains("not_allowed"), "{plain}");
    assert!(tunnel.starts_with("URLError "), "{tunnel}");
    assert!(tunnel.contains(&format!("Tunnel connection failed: 403 {NOT_ALLOWED}")), "{tunnel}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_gets_what_is_allowed() {
    if requests_installed().await {
        python_gets(REQUESTS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_raises_the_reason() {
    if !requests_installed().await {
        return;
    }
    let [plain, tunnel] = python_is_refused(REQUESTS).await;
    let start = format!("403 {NOT_ALLOWED} blocked-by-allowlist ");
    assert!(plain.starts_with(&start) && plain.contains("not_allowed"), "{plain}");
    assert!(tunnel.starts_with("ProxyError "), "{tunnel}");
    assert!(tunnel.contains(&format!("Tunnel connection failed: 403 {NOT_ALLOWED}")), "{tunnel}");
}
