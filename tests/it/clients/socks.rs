//! Clients that are told of a SOCKS5 proxy: curl with both ways to name a host, Python by hand.

use super::*;

/// A stage whose proxy speaks SOCKS5.
async fn stage() -> Stage {
    Stage::set_with(|builder| builder.flag("--socks=127.0.0.1:0")).await
}

fn curl(stage: &Stage, scheme: &str) -> Command {
    let mut command = stage.bare("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--proxy"]);
    command.arg(format!("{scheme}://{}", stage.proxy.socks()));
    command.arg("--cacert").arg(stage.authority());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_names_the_host() {
    if !curl_installed().await {
        return;
    }
    let stage = stage().await;
    stage.plain.file("/greeting", "hello");
    stage.tls.origin.file("/greeting", "hello over TLS");
    for (scheme, user) in [("socks5h", ""), ("socks5h", "somebody:secret")] {
        let mut command = curl(&stage, scheme);
        command.args(["--proxy-user", user].iter().take(if user.is_empty() { 0 } else { 2 }));
        command.args([stage.http("ok.test", "/greeting"), stage.https("ok.test", "/greeting")]);
        assert_eq!(run(command).await.succeeded().text(), "hellohello over TLS");
    }
    for host in ["no.test", "evil.test"] {
        for url in [stage.http(host, "/"), stage.https(host, "/")] {
            let mut command = curl(&stage, "socks5h");
            command.arg(url);
            let finished = run(command).await.failed();
            // "Can't complete SOCKS5 connection to no.test. (2)"
            assert_eq!(finished.code, Some(97), "{}", finished.stderr);
            assert!(finished.stderr.contains("(2)"), "{}", finished.stderr);
        }
        stage.refused(host, "socks5_tcp").await;
    }
    assert_eq!(stage.plain.requests().len(), 2);
    assert_eq!(stage.tls.origin.requests().len(), 2);
}

/// It looks the name up itself, and names the address: a rule for the name says nothing about that.
#[tokio::test(flavor = "multi_thread")]
async fn curl_names_the_address() {
    if !curl_installed().await {
        return;
    }
    let stage = stage().await;
    let port = stage.plain.port();
    let mut command = curl(&stage, "socks5");
    command.arg("--resolve").arg(format!("ok.test:{port}:127.0.0.1"));
    command.arg(stage.http("ok.test", "/"));
    assert_eq!(run(command).await.failed().code, Some(97));
    stage.refused("127.0.0.1", "socks5_tcp").await;
    stage.assert_untouched();

    let rules = "allowed_domains = [\"127.0.0.1\", \"ok.test\"]";
    stage.proxy.replace_policy(rules);
    stage.proxy.signal("HUP");
    crate::support::eventually("a new policy", || {
        stage.proxy.log().contains("policy reloaded").then_some(())
    })
    .await;
    stage.tls.origin.file("/", "hello over TLS");
    // In a tunnel to an address, SNI must be allowed.
    for (host, code) in [("ok.test", Some(0)), ("no.test", Some(35))] {
        let mut command = curl(&stage, "socks5");
        let port = stage.tls.origin.port();
        command.arg("--resolve").arg(format!("{host}:{port}:127.0.0.1"));
        command.arg(stage.https(host, "/"));
        let finished = run(command).await;
        assert_eq!(finished.code, code, "{}", finished.stderr);
    }
    assert_eq!(stage.tls.origin.requests().len(), 1);
}

/// As programs do it that bring their own SOCKS: all at once, and one byte at a time.
const PYTHON: &str = r#"
import socket, struct, sys
host, port, name, target = sys.argv[2], int(sys.argv[3]), sys.argv[4].encode(), int(sys.argv[5])
request = b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack("!H", target)
def read(s, count):
    got = b""
    while len(got) < count:
        piece = s.recv(count - len(got))
        if not piece: break
        got += piece
    return got
for step in (1, 1000):
    with socket.create_connection((host, port), 30) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for message, answer in ((b"\x05\x02\x00\x02", 2), (request, 10)):
            for at in range(0, len(message), step):
                s.sendall(message[at:at + step])
            said = read(s, answer)
        if said[1]: sys.exit(f"refused {said[1]}")
        s.sendall(b"GET /greeting HTTP/1.0\r\nHost: " + name + b"\r\n\r\n")
        print(read(s, 1 << 20).split(b"\r\n\r\n")[1].decode())
"#;

#[tokio::test(flavor = "multi_thread")]
async fn python_by_hand() {
    if !python_installed().await {
        return;
    }
    let stage = stage().await;
    stage.plain.file("/greeting", "hello");
    let (host, port) = ("127.0.0.1", stage.proxy.socks().port().to_string());
    let target = stage.plain.port().to_string();
    let finished = run(stage.python(PYTHON, &[host, &port, "ok.test", &target])).await.succeeded();
    assert_eq!(finished.text().replace('\r', ""), "hello\nhello\n");
    let finished = run(stage.python(PYTHON, &[host, &port, "no.test", &target])).await.failed();
    assert!(finished.stderr.contains("refused 2"), "{}", finished.stderr);
}
