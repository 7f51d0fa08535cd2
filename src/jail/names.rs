//! DNS within the jail: every name gets an address that stands for it, and nothing is looked up. A
//! connection to such an address is one to the name, and judged as that.
//!
//! The addresses are of 198.18.0.0/16, which is for tests of network devices (RFC 2544, RFC 6890)
//! and nowhere in use. There are no more of them, and none is given twice.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use crate::net::{Authority, DnsName, Host, Port};

/// The names that were asked for.
#[derive(Debug, Default)]
pub struct Names(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_name: BTreeMap<DnsName, u16>,
    by_number: Vec<DnsName>,
}

/// What an answer says (RFC 1035 §4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    NoError,
    ServerFailure,
    NoSuchName,
}

/// The addresses that stand for names begin so; what follows is the name's number.
const NETWORK: [u8; 2] = [198, 18];

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;

/// Seconds. The address stands for the name as long as the jail.
const TTL: u32 = 60;

/// After a failure.
const PAUSE: Duration = Duration::from_millis(10);

/// The longest question without TCP (RFC 1035 §2.3.4), and room for extensions.
const MAX_QUESTION: usize = 4096;

impl Names {
    /// Answers questions that come to a socket; never ends. Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// The socket cannot be watched.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops answering.
    pub async fn answer(self: Arc<Self>, socket: UdpSocket) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let mut question = vec![0; MAX_QUESTION];
        loop {
            let Ok((read, client)) = socket.recv_from(&mut question).await else {
                // About one client that is gone; if not, this does not spin.
                sleep(PAUSE).await;
                continue;
            };
            if let Some(answer) = self.reply(question.get(..read).unwrap_or_default()) {
                socket.send_to(&answer, client).await.ok();
            }
        }
    }

    /// What an address stands for: a name, or itself. None if it would stand for a name and does not.
    #[must_use]
    pub fn meant_by(&self, address: SocketAddr) -> Option<Authority> {
        let port = Port::new(address.port())?;
        let host = match number(address.ip()) {
            Some(number) => {
                let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                Host::Name(table.by_number.get(usize::from(number))?.clone())
            }
            None => Host::from(address.ip()),
        };
        Some(Authority { host, port })
    }

    /// The answer to a question; none to what is no question.
    fn reply(&self, question: &[u8]) -> Option<Vec<u8>> {
        let head = question.get(..12)?;
        // An answer, or something other than a question (QR and OPCODE), or not one question.
        if head.get(2)? & 0xf8 != 0 || head.get(4..6)? != [0, 1] {
            return None;
        }
        let (mut name, mut has_inner_dot) = (Vec::new(), false);
        let mut at = 12;
        loop {
            let length = usize::from(*question.get(at)?);
            let label = question.get(at + 1..at + 1 + length)?;
            at += 1 + length;
            match length {
                0 => break,
                1..64 => {
                    if !name.is_empty() {
                        name.push(b'.');
                    }
                    name.extend(label);
                    has_inner_dot |= label.contains(&b'.');
                }
                _ => return None,
            }
        }
        let kind = u16::from_be_bytes(question.get(at..at + 2)?.try_into().ok()?);
        let asked = question.get(12..at + 4)?;
        // A dot in a label (RFC 2181 §11) would read as the end of it, of another name.
        let name = if has_inner_dot { None } else { DnsName::parse(&name).ok() };
        let (code, address) = match (name, kind) {
            (None, _) | (Some(_), TYPE_PTR) => (Code::NoSuchName, None),
            (Some(name), TYPE_A) => match self.address_of(name) {
                Some(address) => (Code::NoError, Some(address)),
                None => (Code::ServerFailure, None),
            },
            // No address of version 6, no hints (HTTPS, SVCB), nothing else.
            (Some(_), _) => (Code::NoError, None),
        };
        Some(write(head, asked, code, address))
    }

    /// None when there are no more.
    fn address_of(&self, name: DnsName) -> Option<Ipv4Addr> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = u16::try_from(table.by_number.len()).ok();
        let number = match table.by_name.get(&name) {
            Some(number) => *number,
            None => {
                let number = next?;
                table.by_number.push(name.clone());
                table.by_name.insert(name, number);
                number
            }
        };
        let [high, low] = number.to_be_bytes();
        let [first, second] = NETWORK;
        Some(Ipv4Addr::new(first, second, high, low))
    }
}

/// Whether an address is one of those that stand for names, whether it was given to one or not.
pub(super) fn is_stand_in(address: IpAddr) -> bool {
    number(address).is_some()
}

/// Of the name that an address stands for.
fn number(address: IpAddr) -> Option<u16> {
    match address {
        IpAddr::V4(address) => {
            let [first, second, high, low] = address.octets();
            ([first, second] == NETWORK).then(|| u16::from_be_bytes([high, low]))
        }
        IpAddr::V6(_) => None,
    }
}

fn write(head: &[u8], asked: &[u8], code: Code, address: Option<Ipv4Addr>) -> Vec<u8> {
    let mut answer = head.get(..2).unwrap_or_default().to_vec();
    // An answer; recursion was wanted, and is to be had.
    let code = match code {
        Code::NoError => 0,
        Code::ServerFailure => 2,
        Code::NoSuchName => 3,
    };
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    answer.extend(asked);
    if let Some(address) = address {
        // The name of the question, by its place.
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(TTL.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    /// The code, and the address if there is one.
    fn answered(names: &Names, name: &str, kind: u16) -> (u8, Option<[u8; 4]>) {
        let question = question(name, kind);
        let answer = names.reply(&question).unwrap();
        assert_eq!(answer[..3], [0xab, 0xcd, 0x81]);
        assert_eq!(answer[12..question.len()], question[12..]);
        let address = (answer[7] == 1).then(|| answer[answer.len() - 4..].try_into().unwrap());
        (answer[3] & 0xf, address)
    }

    #[test]
    fn a_name_has_one_address_that_stands_for_it() {
        let names = Names::default();
        assert_eq!(answered(&names, "a.test", TYPE_A), (0, Some([198, 18, 0, 0])));
        assert_eq!(answered(&names, "b.test", TYPE_A), (0, Some([198, 18, 0, 1])));
        assert_eq!(answered(&names, "A.Test", TYPE_A), (0, Some([198, 18, 0, 0])));
        let meant = |text: &str| names.meant_by(text.parse().unwrap()).map(|it| it.to_string());
        assert_eq!(meant("198.18.0.1:22").unwrap(), "b.test:22");
        assert_eq!(meant("198.18.0.2:22"), None);
        assert_eq!(meant("192.0.2.1:22").unwrap(), "192.0.2.1:22");
    }

    #[test]
    fn other_questions_get_no_address() {
        let names = Names::default();
        // AAAA, HTTPS, TXT: the name is there, the record is not.
        for kind in [28, 65, 16] {
            assert_eq!(answered(&names, "a.test", kind), (0, None));
        }
        assert_eq!(answered(&names, "1.0.18.198.in-addr.arpa", TYPE_PTR), (3, None));
        for name in ["", "a b.test", "-a.test", "10.0.0.1"] {
            assert_eq!(answered(&names, name, TYPE_A), (3, None), "{name}");
        }
        // One label, `a.test`.
        let mut one = question("a-test", TYPE_A);
        one[14] = b'.';
        let answer = names.reply(&one).unwrap();
        assert_eq!((answer[3] & 0xf, answer[7]), (3, 0));
        assert!(names.0.lock().unwrap().by_number.is_empty());
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let names = Names::default();
        let whole = question("a.test", TYPE_A);
        for end in 0..whole.len() {
            assert_eq!(names.reply(&whole[..end]), None, "{end}");
        }
        for (place, byte) in [(2, 0x80), (5, 2), (5, 0), (12, 0xc0)] {
            let mut broken = whole.clone();
            broken[place] = byte;
            assert_eq!(names.reply(&broken), None, "{place}");
        }
    }

    #[test]
    fn there_is_an_end_to_addresses() {
        let names = Names::default();
        for number in 0..=u16::MAX {
            assert!(
                names
                    .address_of(DnsName::parse(format!("n{number}.test").as_bytes()).unwrap())
                    .is_some()
            );
        }
        assert_eq!(answered(&names, "one-more.test", TYPE_A), (2, None));
        assert_eq!(answered(&names, "n7.test", TYPE_A), (0, Some([198, 18, 0, 7])));
    }
}
