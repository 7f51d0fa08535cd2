//! OpenSSL's own client, and curl, with a server name that is not the host of the tunnel.

use tokio::io::AsyncReadExt as _;

use super::*;
use crate::support::RawOrigin;

#[tokio::test(flavor = "multi_thread")]
async fn openssl_with_the_name_it_asked_for() {
    if !openssl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    let port = stage.tls.origin.port();
    for (arguments, shows) in [
        (&["-tls1_3"][..], "TLSv1.3"),
        (&["-tls1_2"], "TLSv1.2"),
        // A key share for a group that the origin lacks: it asks for a second hello.
        (&["-tls1_3", "-groups", "P-521:X25519", "-msg"], "HelloRetryRequest"),
    ] {
        let mut command = stage.openssl(port, "ok.test");
        command.args(["-CAfile"]).arg(stage.authority());
        command.args(["-verify_return_error"]).args(arguments);
        let said = run(command).await.succeeded().said();
        if shows == "HelloRetryRequest" {
            let hellos = said.matches("ClientHello").count();
            assert_eq!(hellos, 2, "{said}");
        } else {
            assert!(said.contains(shows), "{said}");
        }
        assert!(said.contains("Verification: OK"), "{said}");
    }
    assert_eq!(stage.tls.origin.connections(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_with_another_name() {
    if !openssl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    let origin = RawOrigin::bind().await;
    for name in ["evil.test", "no.test", "other.test"] {
        let client = tokio::spawn(run(stage.openssl(origin.port(), name)));
        let mut got = Vec::new();
        origin.accept().await.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"", "the origin saw nothing");
        let said = client.await.unwrap().failed().said();
        assert!(said.contains("unrecognized name"), "{said}");
        stage.mismatched(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_with_no_name() {
    if !openssl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    let origin = RawOrigin::bind().await;
    let mut command = stage.bare("openssl");
    command.args(["s_client", "-noservername", "-proxy", &stage.proxy.address.to_string()]);
    command.args(["-connect", &format!("ok.test:{}", origin.port())]);
    let client = tokio::spawn(run(command));
    let mut got = Vec::new();
    origin.accept().await.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"", "the origin saw nothing");
    // It knows the alert by its number only.
    let said = client.await.unwrap().failed().said();
    assert!(said.contains("alert number 109"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_fronts_nothing() {
    if !curl_installed().await {
        return;
    }
    let stage = Stage::set().await;
    let origin = RawOrigin::bind().await;
    let port = origin.port();
    // The tunnel is for the allowed host; what is asked for in it is another.
    for (url, says) in [
        (format!("https://no.test:{port}/"), "unrecognized name"),
        (format!("http://no.test:{port}/"), "403"),
    ] {
        let mut command = stage.curl();
        command.args(["--proxytunnel", "--fail", &url]);
        command.args(["--connect-to", &format!("no.test:{port}:ok.test:{port}")]);
        let client = tokio::spawn(run(command));
        let mut got = Vec::new();
        origin.accept().await.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"", "the origin saw nothing");
        let said = client.await.unwrap().failed().said();
        assert!(said.contains(says), "{said}");
    }
}

impl Stage {
    /// A handshake in a tunnel to the allowed host, with a server name.
    fn openssl(&self, port: u16, name: &str) -> Command {
        let mut command = self.bare("openssl");
        command.args(["s_client", "-servername", name, "-proxy", &self.proxy.address.to_string()]);
        command.args(["-connect", &format!("ok.test:{port}")]);
        command
    }

    /// Waits for the audit to say that a tunnel was closed for a name.
    async fn mismatched(&self, name: &str) {
        self.proxy
            .audit(1, |record| {
                record["exeat.ending"] == "sni_mismatch"
                    && record["tls.client.server_name"] == name
                    && record["server.address"] == "ok.test"
            })
            .await;
    }
}

async fn openssl_installed() -> bool {
    installed("openssl", &["openssl", "version"]).await
}
