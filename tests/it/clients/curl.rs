//! curl: plain and through tunnels, allowed and refused, bodies both ways.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_what_is_allowed() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    stage.plain.file("/greeting", "hello");
    stage.tls.origin.file("/greeting", "hello over TLS");

    let mut command = stage.curl();
    command.arg(stage.http("ok.test", "/greeting?a=b"));
    assert_eq!(run(command).await.succeeded().text(), "hello");
    assert_eq!(asked(&stage.plain), ["GET /greeting?a=b"]);
    let host = format!("ok.test:{}", stage.plain.port());
    assert_eq!(field(&stage.plain.requests()[0], "host"), Some(host.as_str()));

    let mut command = stage.curl();
    command.arg(stage.https("ok.test", "/greeting?c=d"));
    assert_eq!(run(command).await.succeeded().text(), "hello over TLS");
    assert_eq!(asked(&stage.tls.origin), ["GET /greeting?c=d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_verifies_the_origin_through_the_tunnel() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    let mut command = stage.command("curl");
    command.args(["--silent", "--show-error", "--max-time", "30"]);
    command.arg(stage.https("ok.test", "/"));
    let finished = run(command).await.failed();
    assert!(finished.stderr.contains("certificate"), "{}", finished.stderr);
    assert_eq!(stage.tls.origin.connections(), 1, "the tunnel itself was allowed");
    assert_eq!(stage.tls.origin.requests(), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_takes_the_proxy_from_the_environment() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    stage.plain.file("/", "hello");
    stage.tls.origin.file("/", "hello over TLS");
    let mut command = stage.command("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--cacert"]);
    command.arg(stage.authority());
    command.args([stage.http("ok.test", "/"), stage.https("ok.test", "/")]);
    assert_eq!(run(command).await.succeeded().text(), "hellohello over TLS");
    assert_eq!(stage.plain.requests().len(), 1);
    assert_eq!(stage.tls.origin.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_told_why_a_plain_request_is_refused() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    for (host, error, reason, phrase) in [
        ("no.test", "blocked-by-allowlist", "not_allowed", NOT_ALLOWED),
        ("evil.test", "blocked-by-denylist", "denied", DENIED),
    ] {
        let mut command = stage.curl();
        command.args(["--include", &stage.http(host, "/secret")]);
        let text = run(command).await.succeeded().text();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some(format!("HTTP/1.1 403 {phrase}").as_str()));
        let head = lines.map(str::to_lowercase).collect::<Vec<_>>();
        assert!(head.contains(&format!("x-proxy-error: {error}")), "{head:?}");
        let status = head.iter().find(|line| line.starts_with("proxy-status: ")).unwrap();
        assert!(status.contains(phrase), "{status}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["reason"], reason);

        // Scripts that ask to fail do.
        let mut command = stage.curl();
        command.args(["--fail", &stage.http(host, "/secret")]);
        run(command).await.failed();
        stage.refused(host, "http").await;
    }
    stage.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_verbose_shows_why_a_connect_is_refused() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    for (host, error, phrase) in [
        ("no.test", "blocked-by-allowlist", NOT_ALLOWED),
        ("evil.test", "blocked-by-denylist", DENIED),
    ] {
        // What a user would type.
        let mut command = stage.bare("curl");
        command.args(["-v", "-m", "30", "-w", "%{http_connect} %{http_code}", "-x"]);
        command.arg(stage.proxy.url()).arg(stage.https(host, "/secret"));
        let finished = run(command).await.failed();
        assert_eq!(finished.text(), "403 000");
        let lines: Vec<&str> = finished.stderr.lines().map(str::trim_end).collect();
        // On a slow machine a line begins with what is left of curl's progress meter.
        let shows = |line: &str| {
            lines.iter().any(|shown| shown.to_lowercase().ends_with(&line.to_lowercase()))
        };
        assert!(shows(&format!("< HTTP/1.1 403 {phrase}")), "{}", finished.stderr);
        assert!(shows(&format!("< x-proxy-error: {error}")), "{}", finished.stderr);
        let status = lines.iter().find(|line| line.to_lowercase().contains("< proxy-status: "));
        assert!(status.is_some_and(|line| line.contains(phrase)), "{}", finished.stderr);
        stage.refused(host, "https_connect").await;
    }
    stage.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_keeps_its_connection() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    for url in [stage.http("ok.test", ""), stage.https("ok.test", "")] {
        let mut command = stage.curl();
        command.args(["--write-out", "%{http_code} %{num_connects}\n", "--output", "first"]);
        command.arg(format!("{url}/first")).args(["--output", "second"]);
        command.arg(format!("{url}/second"));
        assert_eq!(run(command).await.succeeded().text(), "200 1\n200 0\n", "{url}");
        for name in ["first", "second"] {
            let body: Value = serde_json::from_slice(&fs::read(stage.path(name)).unwrap()).unwrap();
            assert_eq!(body["target"], format!("/{name}"), "each answer to its own request");
        }
    }
    assert_eq!(asked(&stage.plain), ["GET /first", "GET /second"]);
    assert_eq!(asked(&stage.tls.origin), ["GET /first", "GET /second"]);
    assert_eq!(stage.tls.origin.connections(), 1, "one tunnel carried both");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_goes_on_after_a_refusal() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    stage.plain.file("/", "plain");
    stage.tls.origin.file("/", "tls");
    let mut command = stage.curl();
    command.args(["--write-out", " %{http_connect} %{http_code}\n"]);
    command.args(["--output", "refused", &stage.http("no.test", "/")]);
    command.args(["--output", "-", &stage.http("ok.test", "/")]);
    command.args(["--output", "refused-tls", &stage.https("no.test", "/")]);
    command.args(["--output", "-", &stage.https("ok.test", "/")]);
    let text = run(command).await.text();
    assert_eq!(text, " 000 403\nplain 000 200\n 403 000\ntls 200 200\n");
    assert_eq!(asked(&stage.plain), ["GET /"]);
    assert_eq!(asked(&stage.tls.origin), ["GET /"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_posts_a_body_it_asks_about_first() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    // Long enough for curl to ask with Expect.
    let body: String = noise(1_500_000).iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    fs::write(stage.path("body"), &body).unwrap();
    let post = |url: String| {
        let mut command = stage.curl();
        // Without the 100 it would wait longer than it may.
        command.args(["--verbose", "--expect100-timeout", "60", "--data-binary", "@body"]);
        command.args(["--output", "answer", "--write-out", "%{http_code} %{size_upload}", &url]);
        command
    };

    let finished = run(post(stage.http("ok.test", "/upload"))).await.succeeded();
    assert_eq!(finished.text(), "200 1500000");
    assert!(finished.stderr.contains("> Expect: 100-continue"), "{}", finished.stderr);
    assert!(finished.stderr.contains("< HTTP/1.1 100 Continue"), "{}", finished.stderr);
    assert_eq!(asked(&stage.plain), ["POST /upload"]);
    assert!(stage.plain.requests()[0]["body"] == body, "the body arrives as it was sent");

    let finished = run(post(stage.https("ok.test", "/upload"))).await.succeeded();
    assert_eq!(finished.text(), "200 1500000");
    assert!(stage.tls.origin.requests()[0]["body"] == body, "the body arrives as it was sent");

    // A refusal comes instead of the 100, and the body stays at home.
    let finished = run(post(stage.http("no.test", "/upload"))).await.succeeded();
    assert_eq!(finished.text(), "403 0", "{}", finished.stderr);
    assert!(!finished.stderr.contains("100 Continue"), "{}", finished.stderr);
    assert_eq!(stage.plain.requests().len(), 1);
    assert_eq!(stage.plain.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_uploads_in_chunks() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    let body: String = noise(300_000).iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    fs::write(stage.path("body"), &body).unwrap();
    for url in [stage.http("ok.test", "/upload"), stage.https("ok.test", "/upload")] {
        let mut command = stage.curl();
        command.args(["--upload-file", "body", "--header", "Transfer-Encoding: chunked"]);
        command.args(["--output", "answer", "--write-out", "%{http_code}", &url]);
        assert_eq!(run(command).await.succeeded().text(), "200");
    }
    for origin in [&stage.plain, &stage.tls.origin] {
        let requests = origin.requests();
        assert_eq!(asked(origin), ["PUT /upload"]);
        assert_eq!(field(&requests[0], "transfer-encoding"), Some("chunked"));
        assert!(requests[0]["body"] == body, "the body arrives as it was sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_downloads_every_byte() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    let blob = noise(20_000_000);
    for (origin, url) in [
        (&stage.plain, stage.http("ok.test", "/blob")),
        (&stage.tls.origin, stage.https("ok.test", "/blob")),
    ] {
        origin.file("/blob", blob.clone());
        let mut command = stage.curl();
        command.args(["--output", "blob", &url]);
        run(command).await.succeeded();
        assert!(fs::read(stage.path("blob")).unwrap() == blob, "{url} differs");
        assert_eq!(asked(origin), ["GET /blob"]);
    }
}
