//! A DNS server for one name, `origin.test`, which is 127.0.0.1 for an hour.

use std::{io, net::Ipv4Addr};

use tokio::net::UdpSocket;

/// `origin.test` in a question.
const NAME: &[u8] = b"\x06origin\x04test\0";

/// Bytes of a message's header.
const HEADER: usize = 12;

const TTL: [u8; 4] = 3_600_u32.to_be_bytes();

/// Starts it, and says at which port.
pub(super) async fn start() -> io::Result<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = socket.local_addr()?.port();
    tokio::spawn(async move {
        let mut bytes = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut bytes).await {
            if let Some(answer) = bytes.get(..length).and_then(answer) {
                socket.send_to(&answer, client).await.ok();
            }
        }
    });
    Ok(port)
}

/// RFC 1035: the question again, then the address, or that there is none of that kind (RFC 2308).
/// Questions about other names get no answer.
fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let name = message.get(HEADER..HEADER + NAME.len())?;
    let rest = message.get(HEADER + NAME.len()..)?;
    let (kind, class) = (rest.get(..2)?, rest.get(2..4)?);
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let is_address = kind == [0, 1];
    let mut answer = message.get(..2)?.to_vec();
    // A response, authoritative, recursion available, no error.
    answer.extend([0x85, 0x80]);
    answer.extend([0, 1, 0, u8::from(is_address), 0, u8::from(!is_address), 0, 0]);
    answer.extend(name);
    answer.extend(kind);
    answer.extend(class);
    if is_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(TTL);
        answer.extend([0, 4, 127, 0, 0, 1]);
    } else {
        // The zone's SOA says for how long that is known: `test.`, at its name's place in the question.
        answer.extend([0xc0, 19, 0, 6, 0, 1]);
        answer.extend(TTL);
        answer.extend([0, 24, 0xc0, 19, 0xc0, 19]);
        answer.extend([0, 0, 0, 1].into_iter().chain(TTL.repeat(4)));
    }
    Some(answer)
}
