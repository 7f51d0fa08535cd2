//! `exeat run --publish`: servers in the jail that the machine may connect to, and what it may not.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, ChildStdin},
};

use super::{
    jailed::{Jail, User, users},
    *,
};

/// A program in a jail that has said `ready`, and ends when its input does.
struct Served {
    child: Child,
    input: Option<ChildStdin>,
}

impl Served {
    fn start(jail: &Jail, ports: &[u16], program: &str) -> Self {
        fs::write(jail.launch.path("server.py"), format!("{COMMON}{program}")).unwrap();
        let mut command = jail.command();
        for port in ports {
            command.args(["--publish", &port.to_string()]);
        }
        command.args(["--", "python3", "server.py"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        let input = child.stdin.take();
        Self { child, input }
    }

    fn end(mut self) {
        drop(self.input.take());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A server that says who it is, and then how much it was sent.
const COMMON: &str = r#"
import socket, sys, threading
def serve(name, port, address="127.0.0.1"):
    listener = socket.create_server((address, port), backlog=200)
    def answer(s):
        with s:
            s.sendall(name.encode() + b"\n")
            length = 0
            while data := s.recv(65536):
                length += len(data)
            s.sendall(str(length).encode())
    def accept():
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
def wait():
    print("ready", flush=True)
    sys.stdin.read()
"#;

/// A port that nobody has.
fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a server says that is sent so many bytes.
fn ask(port: u16, length: usize) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(&noise(length))?;
    stream.shutdown(Shutdown::Write)?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_the_jail_is_reached_at_its_port() {
    if !python_installed().await {
        return;
    }
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let (one, two, not) = (free(), free(), free());
        let program =
            format!("serve('one', {one}); serve('two', {two}); serve('not', {not}); wait()");
        let served = Served::start(&jail, &[one, two], &program);
        // More than there are sockets for it: each is used again.
        for length in 0..150 {
            assert_eq!(ask(one, length).unwrap(), format!("one\n{length}"), "{user:?}");
        }
        assert_eq!(ask(two, 1 << 20).unwrap(), format!("two\n{}", 1 << 20));
        // Many at a time, in which the server speaks first.
        let mut streams: Vec<BufReader<TcpStream>> = (0..60)
            .map(|_| BufReader::new(TcpStream::connect(("127.0.0.1", two)).unwrap()))
            .collect();
        for stream in &mut streams {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            assert_eq!(line, "two\n");
        }
        drop(streams);
        assert_eq!(ask(one, 7).unwrap(), "one\n7");
        // Nothing else of the jail is there, and nobody but this machine is let in.
        assert!(TcpStream::connect(("127.0.0.1", not)).is_err());
        for address in ["127.0.0.2", "::1"] {
            assert!(TcpStream::connect((address, one)).is_err(), "{address}");
        }
        served.end();
        assert!(ask(one, 0).is_err(), "it ends with the program");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_server_is_connections_are_reset() {
    if !python_installed().await {
        return;
    }
    let Some(jail) = Jail::set(User::Own).await else { return };
    let port = free();
    let program =
        format!("print('ready', flush=True); sys.stdin.readline(); serve('late', {port}); wait()");
    let mut served = Served::start(&jail, &[port], &program);
    for _ in 0..100 {
        assert!(ask(port, 0).is_err());
    }
    served.input.as_mut().unwrap().write_all(b"\n").unwrap();
    let mut ready = String::new();
    BufReader::new(served.child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ask(port, 3).unwrap(), "late\n3");
    served.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_too_many_connections_gets_no_more() {
    if !python_installed().await {
        return;
    }
    let Some(jail) = Jail::set(User::Own).await else { return };
    let port = free();
    let served = Served::start(&jail, &[port], &format!("serve('here', {port}); wait()"));
    let connect = || BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
    let said = |stream: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        stream.read_line(&mut line).map(|_| line)
    };
    let mut streams: Vec<_> = (0..64).map(|_| connect()).collect();
    for stream in &mut streams {
        assert_eq!(said(stream).unwrap(), "here\n");
    }
    assert!(said(&mut connect()).is_err(), "reset");
    // One that has ended makes room for another.
    let ended = streams.pop().unwrap().into_inner();
    ended.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    (&ended).read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "0");
    let until = std::iter::repeat_with(|| said(&mut connect())).find_map(Result::ok);
    assert_eq!(until.unwrap(), "here\n");
    drop(streams);
    served.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_that_cannot_be_published_are_said_before_the_program_runs() {
    let Some(jail) = Jail::set(User::Own).await else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let published = |port: &str| {
        let mut command = jail.command();
        command.args(["--publish", port, "--", "sh", "-c", "echo ran"]);
        command
    };
    let finished = run(published(&port.to_string())).await;
    assert_eq!((finished.code, finished.text().as_str()), (Some(69), ""), "{}", finished.stderr);
    let expected = format!("exeat: cannot publish port {port}: Address already in use");
    assert!(finished.stderr.contains(&expected), "{}", finished.stderr);
    // The proxy in the jail is for the program alone.
    for port in ["3128", "15001", "0", "65536", "x"] {
        let finished = run(published(port)).await;
        assert_eq!((finished.code, finished.text().as_str()), (Some(64), ""), "{port}");
    }
    drop(taken);
    let finished = run(published(&port.to_string())).await.succeeded();
    assert_eq!(finished.text(), "ran\n");
}
