//! A source of bytes over TLS.

use std::{fs, io, path::Path, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    },
};

use super::plain::PIECE;
use crate::world::{CERTIFICATE, KEY};

/// With the certificate and the key in that directory.
pub(super) fn acceptor(dir: &Path) -> io::Result<TlsAcceptor> {
    let certificate = CertificateDer::from(fs::read(dir.join(CERTIFICATE))?);
    let key = PrivatePkcs8KeyDer::from(fs::read(dir.join(KEY))?);
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .map_err(io::Error::other)?;
    Ok(Arc::new(config).into())
}

pub(super) async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let acceptor = acceptor.clone();
        tokio::spawn(async move { source(stream, acceptor).await.ok() });
    }
}

/// Sends from the client's first byte on.
async fn source(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    stream.read_u8().await?;
    let piece = vec![b'x'; PIECE];
    loop {
        stream.write_all(&piece).await?;
    }
}
