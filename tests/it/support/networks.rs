//! Three networks, as a compose file lays them out: an agent on one that leads to the proxy alone,
//! the proxy on that and on another, and on the other side everything else.
//!
//! Network namespaces below a user namespace: no root is needed, and nothing of the machine's
//! network is in them. Sockets of the outer side are bound there and served by the test itself.

use std::{
    io::{BufRead as _, BufReader, IoSliceMut, Read as _},
    mem::MaybeUninit,
    net::{TcpListener, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::skip;

/// Of the agent, on the inner network.
pub(crate) const AGENT: &str = "10.77.0.3";
/// Of the proxy, on the inner network.
pub(crate) const PROXY_INSIDE: &str = "10.77.0.2";
/// Of the proxy, on the outer network.
pub(crate) const PROXY_OUTSIDE: &str = "11.77.0.2";
/// Of everything else: globally reachable, by what the registries say.
pub(crate) const ORIGIN: &str = "11.77.0.1";
/// A metadata service, one hop from the proxy.
pub(crate) const METADATA: &str = "169.254.169.254";

/// Whose network it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Agent,
    Proxy,
    Outer,
}

/// The networks. They end with it, and whatever runs in them.
#[derive(Debug)]
pub(crate) struct Networks {
    holder: Child,
    proxy: u32,
    agent: u32,
}

/// Makes the namespaces and the links between them, says who holds them, and waits for the end of
/// its input.
const SCRIPT: &str = r#"
set -e
exec 3<&0
unshare --net cat <&3 >/dev/null & proxy=$!
unshare --net cat <&3 >/dev/null & agent=$!
own=$(readlink /proc/self/ns/net)
for pid in $proxy $agent; do
    while [ "$(readlink /proc/$pid/ns/net)" = "$own" ]; do sleep 0.01; done
done
at() { nsenter --target "$1" --net -- sh -ec "$2"; }
ip link set lo up
ip link add name outer type veth peer name outside netns $proxy
ip address add ORIGIN/24 dev outer
ip address add METADATA/32 dev outer
ip link set outer up
ip route add 10.77.0.0/24 via PROXY_OUTSIDE
at $proxy "
    ip link set lo up
    ip address add PROXY_OUTSIDE/24 dev outside
    ip link set outside up
    ip route add default via ORIGIN
    ip link add name inside type veth peer name eth0 netns $agent
    ip address add PROXY_INSIDE/24 dev inside
    ip link set inside up
    [ \"$(cat /proc/sys/net/ipv4/ip_forward)\" = 0 ] || echo 0 > /proc/sys/net/ipv4/ip_forward
"
at $agent "
    ip link set lo up
    ip address add AGENT/24 dev eth0
    ip link set eth0 up
"
echo $proxy $agent
cat
wait
"#;

impl Networks {
    /// None where they cannot be made.
    pub(crate) fn make() -> Option<Self> {
        let script = [
            ("PROXY_INSIDE", PROXY_INSIDE),
            ("PROXY_OUTSIDE", PROXY_OUTSIDE),
            ("ORIGIN", ORIGIN),
            ("METADATA", METADATA),
            ("AGENT", AGENT),
        ]
        .iter()
        .fold(SCRIPT.to_owned(), |script, (name, address)| script.replace(name, address));
        let spawned = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut holder = match spawned {
            Ok(holder) => holder,
            Err(error) => {
                skip(&format!("no networks of the test's own: unshare: {error}"));
                return None;
            }
        };
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let held: Option<Vec<u32>> = line.split_whitespace().map(|pid| pid.parse().ok()).collect();
        match held.as_deref() {
            Some(&[proxy, agent]) => Some(Self { holder, proxy, agent }),
            _ => {
                drop(holder.stdin.take());
                let mut why = String::new();
                holder.stderr.take().unwrap().read_to_string(&mut why).unwrap();
                holder.wait().unwrap();
                skip(&format!("no networks of the test's own: {why}"));
                None
            }
        }
    }

    /// A program in one of them, with the rights of root there, but not in another mount
    /// namespace: files are those of the machine.
    pub(crate) fn at(&self, side: Side, program: &str) -> Command {
        let target = match side {
            Side::Agent => self.agent,
            Side::Proxy => self.proxy,
            Side::Outer => self.holder.id(),
        };
        let mut command = Command::new("nsenter");
        command.args(["--preserve-credentials", "--user", "--net", "--target"]);
        command.arg(target.to_string()).arg("--").arg(program);
        command
    }

    /// Sockets on the outer side: TCP listeners, and UDP sockets.
    pub(crate) fn sockets(
        &self,
        tcp: &[(&str, u16)],
        udp: &[(&str, u16)],
    ) -> (Vec<TcpListener>, Vec<UdpSocket>) {
        let program = format!(
            "import socket as s
def bound(kind, at):
    it = s.socket(s.AF_INET, kind)
    it.bind(at)
    if kind == s.SOCK_STREAM: it.listen(128)
    return it
tcp = [bound(s.SOCK_STREAM, at) for at in {tcp:?}]
udp = [bound(s.SOCK_DGRAM, at) for at in {udp:?}]
s.send_fds(s.socket(fileno=0), [b'x'], [it.fileno() for it in tcp + udp])"
        );
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = self.at(Side::Outer, "python3");
        command.args(["-c", &program]).stdin(OwnedFd::from(theirs));
        let status = command.status().unwrap();
        assert!(status.success());
        let mut descriptors = receive(&ours);
        assert_eq!(descriptors.len(), tcp.len() + udp.len());
        let udp = descriptors.split_off(tcp.len());
        (
            descriptors.into_iter().map(TcpListener::from).collect(),
            udp.into_iter().map(UdpSocket::from).collect(),
        )
    }
}

/// The descriptors of one message.
fn receive(socket: &UnixStream) -> Vec<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let rights = control.drain().map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => rights,
        _ => panic!("a message without descriptors"),
    });
    rights.flatten().collect()
}

impl Drop for Networks {
    fn drop(&mut self) {
        // All of them read it, and end with it.
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}
