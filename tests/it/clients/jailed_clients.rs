//! Clients in the jail with no proxy settings at all: by name they come out where the policy lets
//! them, whatever they speak, and have a clear end where it does not.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

use super::{
    jailed::{Jail, users},
    servers::{Postgres, Sshd},
    *,
};

impl Jail {
    /// A script of which every program is told nothing but where programs and its home are.
    fn untold(&self, script: &str) -> Command {
        let mut command = self.command();
        let inherited = "exec env -i PATH=\"$PATH\" HOME=\"$HOME\" sh -c \"$0\"";
        command.args(["--", "sh", "-c", inherited, script]);
        command
    }

    /// Runs a client of the web that prints of each of four addresses what it got there, or
    /// `refused`: plain and TLS, allowed and refused.
    async fn browse(&self, client: &str) {
        let launch = &self.launch;
        let finished = run(self.untold(&format!(
            "{client} {} {} {} {}",
            launch.http("ok.test"),
            launch.https("ok.test"),
            launch.http("no.test"),
            launch.https("evil.test"),
        )))
        .await;
        assert_eq!(finished.text(), "plain\ntls\nrefused\nrefused\n", "{}", finished.stderr);
        assert_eq!(finished.code, Some(0));
        let says = |part: &str| finished.stderr.contains(part);
        assert!(says("no.test") && says("denied by evil.test"), "{}", finished.stderr);
        assert_eq!(asked(&launch.plain), ["GET /"]);
        assert_eq!(asked(&launch.tls.origin), ["GET /"]);
    }
}

/// Prints of each address what is there, or `refused`.
const NODE_FETCH: &str = r#"
(async () => {
    for (const address of process.argv.slice(2)) {
        try {
            console.log(await (await fetch(address)).text());
        } catch (error) {
            console.error(error);
            console.log("refused");
        }
    }
})();
"#;

#[tokio::test(flavor = "multi_thread")]
async fn git_over_ssh() {
    if !git_installed().await {
        return;
    }
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let Some(sshd) = Sshd::install(jail.launch.path("ssh")).await else { return };
        let repository = jail.launch.path("repository");
        let mut made = bare("sh", jail.launch.files.path());
        made.args([
            "-c",
            "git init -q repository && cd repository && echo text > file && git add file && \
             git -c user.name=a -c user.email=a@ok.test commit -q -m first",
        ]);
        run(made).await.succeeded();
        let client = sshd.client("ok.test", user);
        let git = |arguments: &str, host: &str| {
            format!(
                "git -c core.sshCommand='ssh -F {}' {arguments} ssh://{}@{host}:{}{}",
                client.display(),
                sshd.user,
                sshd.port(),
                repository.display(),
            )
        };
        let served = sshd.serve();
        let work = jail.workplace();
        let script = format!(
            "cd {} && {} copy && git -C copy log --format=%s && cat copy/file",
            work.display(),
            git("clone --quiet", "ok.test")
        );
        let finished = run(jail.untold(&script)).await;
        assert_eq!(finished.text(), "first\ntext\n", "{user:?} {}", finished.stderr);
        served.join().unwrap();

        let finished = run(jail.untold(&git("ls-remote", "evil.test"))).await;
        assert_eq!((finished.code, finished.text().as_str()), (Some(128), ""), "{user:?}");
        let says = |part: &str| finished.stderr.contains(part);
        assert!(says("Connection reset by"), "{}", finished.stderr);
        assert!(says("denied by evil.test, requirements.toml:4"), "{}", finished.stderr);
        sshd.assert_untouched();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql() {
    let files = tempfile::tempdir().unwrap();
    fs::set_permissions(files.path(), Permissions::from_mode(0o755)).unwrap();
    let Some(server) = Postgres::start(files.path().join("postgres")).await else { return };
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let ask = |host: &str, tls: &str| {
            format!(
                "psql -XAt -c 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()' \
                 'host={host} port={} user=postgres dbname=postgres sslrootcert={} sslmode={tls}'",
                server.port,
                server.authority.display(),
            )
        };
        // Without TLS; with it, once the server was asked in its own words.
        for (tls, answer) in [("disable", "f\n"), ("require", "t\n"), ("verify-full", "t\n")] {
            let finished = run(jail.untold(&ask("ok.test", tls))).await;
            assert_eq!(finished.text(), answer, "{user:?} {tls} {}", finished.stderr);
            assert_eq!(finished.code, Some(0));
        }
        for tls in ["disable", "prefer", "verify-full"] {
            let finished = run(jail.untold(&ask("evil.test", tls))).await;
            assert_eq!((finished.code, finished.text().as_str()), (Some(2), ""), "{user:?} {tls}");
            let says = |part: &str| finished.stderr.contains(part);
            assert!(says("server at \"evil.test\""), "{}", finished.stderr);
            assert!(says("denied by evil.test, requirements.toml:4"), "{}", finished.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn java_http_client() {
    // With the compiler, which is no part of every Java.
    let compiler = ["sh", "-c", "java --list-modules | grep -q jdk.compiler"];
    if !installed("a JDK", &compiler).await {
        return;
    }
    let program = r#"
import java.io.*;
import java.net.URI;
import java.net.http.*;
import java.security.KeyStore;
import java.security.cert.*;
import javax.net.ssl.*;

class Fetch {
    public static void main(String[] addresses) throws Exception {
        var trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (var file = new FileInputStream("authority.pem")) {
            var authority = CertificateFactory.getInstance("X.509").generateCertificate(file);
            trusted.setCertificateEntry("authority", authority);
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        var tls = SSLContext.getInstance("TLS");
        tls.init(null, trust.getTrustManagers(), null);
        var client = HttpClient.newBuilder().sslContext(tls).build();
        for (var address : addresses) {
            try {
                var request = HttpRequest.newBuilder(URI.create(address)).build();
                System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
            } catch (IOException error) {
                System.err.println(error);
                System.out.println("refused");
            }
        }
    }
}
"#;
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        fs::write(jail.launch.path("Fetch.java"), program).unwrap();
        jail.browse("java Fetch.java").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_fetch() {
    if !installed("node with fetch", &["node", "-e", "fetch.name"]).await {
        return;
    }
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        fs::write(jail.launch.path("fetch.js"), NODE_FETCH).unwrap();
        jail.browse("NODE_EXTRA_CA_CERTS=authority.pem node fetch.js").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_aiohttp() {
    if !python_installed().await {
        return;
    }
    let program = r#"
import aiohttp, asyncio, ssl, sys
async def fetch():
    trust = ssl.create_default_context(cafile="authority.pem")
    async with aiohttp.ClientSession() as session:
        for address in sys.argv[1:]:
            try:
                async with session.get(address, ssl=trust) as answer:
                    print(await answer.text())
            except aiohttp.ClientConnectionError as error:
                print(repr(error), file=sys.stderr)
                print("refused")
asyncio.run(fetch())
"#;
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        if !run(jail.untold("python3 -c 'import aiohttp'")).await.success {
            skip_optional("Python aiohttp is not installed");
            return;
        }
        fs::write(jail.launch.path("fetch.py"), program).unwrap();
        jail.browse("python3 fetch.py").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_nothing_finds_the_policy_and_nothing_else() {
    let node = installed("node with fetch", &["node", "-e", "fetch.name"]);
    if !(node.await && curl_installed().await && python_installed().await) {
        return;
    }
    let get = r#"
import ssl, sys, urllib.request
trust = ssl.create_default_context(cafile="authority.pem")
for address in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(address, context=trust, timeout=30).read().decode())
    except OSError:
        print("refused")
"#;
    // Past the policy: this machine, and an address that is nobody's.
    let around = r#"
import socket
for kind, to in [(socket.SOCK_STREAM, ("127.0.0.1", TCP)), (socket.SOCK_DGRAM, ("127.0.0.1", UDP)),
        (socket.SOCK_STREAM, ("198.51.100.1", 443)), (socket.SOCK_DGRAM, ("198.51.100.1", 443))]:
    try:
        with socket.socket(socket.AF_INET, kind) as s:
            s.settimeout(30)
            s.connect(to)
            s.send(b"x")
            s.recv(1)
            print("open")
    except ConnectionError:
        print("closed")
"#;
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let launch = &jail.launch;
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let around = around
            .replace("TCP", &launch.plain.port().to_string())
            .replace("UDP", &udp.local_addr().unwrap().port().to_string());
        for (name, program) in [("get.py", get), ("around.py", &around), ("fetch.js", NODE_FETCH)] {
            fs::write(launch.path(name), program).unwrap();
        }
        let (allowed, refused) = (launch.https("ok.test"), launch.https("no.test"));
        let finished = run(jail.untold(&format!(
            "for i in {allowed} {refused}; do \
             curl --silent --max-time 30 --cacert authority.pem $i && echo || echo refused; done; \
             python3 get.py {allowed} {refused}; \
             NODE_EXTRA_CA_CERTS=authority.pem node fetch.js {allowed} {refused}; \
             python3 around.py",
        )))
        .await;
        let expected = ["tls\nrefused\n"; 3].concat() + &"closed\n".repeat(4);
        assert_eq!(finished.text(), expected, "{user:?} {}", finished.stderr);
        assert_eq!(asked(&launch.tls.origin), ["GET /"; 3]);
        assert_eq!(launch.plain.connections(), 0);
        udp.set_nonblocking(true).unwrap();
        assert!(udp.recv(&mut [0]).is_err(), "nobody came");

        let finished = run(jail.script("exec \"$EXEAT\" doctor")).await;
        let text = finished.text();
        assert_eq!(finished.code, Some(0), "{user:?} {text} {}", finished.stderr);
        let closed =
            |what: &str| text.lines().any(|line| line.starts_with(&format!("closed   {what}")));
        for what in
            ["TCP to 1.1.1.1:443", "UDP (QUIC) to 1.1.1.1", "UDP (DNS) to 1.1.1.1", "metadata"]
        {
            assert!(closed(what), "{user:?} {what} {text}");
        }
    }
}
