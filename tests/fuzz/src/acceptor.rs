//! A second reading of hellos, by rustls: for the fuzz targets, and for `tests/it/hellos.rs`.

use tokio_rustls::rustls::server::Acceptor;

/// None: it takes the bytes for no hello that it could answer.
pub(crate) fn name_read_by_rustls(mut bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Some(accepted.client_hello().server_name().map(str::to_owned));
            }
            Ok(None) => {}
            Err(_) => return None,
        }
    }
    None
}
