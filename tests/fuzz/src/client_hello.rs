//! The reader of `ClientHello`s: one verdict however the bytes are cut, no panic, and no other name
//! than the one another TLS library reads.
//!
//! The first byte says in how large pieces the rest comes.

use exeat::tls::{Beginning, ClientHello, Following, HelloReader, Next, beginning_of};

use super::acceptor::name_read_by_rustls;

/// What a client says first in a tunnel.
pub fn client_hello(input: &[u8]) {
    let Some((step, bytes)) = input.split_first() else { return };
    let step = usize::from(*step).max(1);
    ClientHello::parse(bytes).ok();
    let whole = HelloReader::default().read(bytes);
    let mut reader = HelloReader::default();
    let ends = (0..bytes.len()).step_by(step).chain([bytes.len()]);
    let cut = ends.map(|end| reader.read(&bytes[..end])).find(|read| !matches!(read, Ok(None)));
    assert_eq!(cut.unwrap_or(Ok(None)), whole);
    let Ok(Some(whole)) = whole else { return };
    assert_eq!(beginning_of(bytes), Beginning::Tls);
    assert!(whole.end <= bytes.len() && whole.end < HelloReader::MAX_BYTES + (1 << 14) + 5);
    if let Some(other) = name_read_by_rustls(&bytes[..whole.end]) {
        let ours = whole.hello.server_name.as_ref().map(|name| name.as_str());
        assert_eq!(ours, other.map(|name| name.to_ascii_lowercase()).as_deref());
    }
    let mut following = Following::new(whole.hello.early_data);
    let mut rest = &bytes[whole.end..];
    while let Next::Skip(length) = following.look(rest) {
        assert!(length > 0);
        rest = &rest[length..];
    }
}
