//! Where a proxy is to lead: the origins, all in one child process, and what their TLS is trusted by.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};

use super::running::Group;

/// The ports of the origins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ports {
    /// For requests.
    pub(crate) http: Vec<u16>,
    /// For tunnels, apart: privoxy has been seen to reuse a connection of requests for a tunnel.
    pub(crate) opaque: Vec<u16>,
    /// A source of bytes over TLS.
    pub(crate) tls: u16,
    /// The DNS server, which knows `origin.test`.
    pub(crate) dns: u16,
}

/// Running origins.
#[derive(Debug)]
pub(crate) struct World {
    _group: Group,
    pub(crate) http: Vec<u16>,
    pub(crate) opaque: Vec<u16>,
    pub(crate) tls: u16,
    pub(crate) dns: u16,
    pub(crate) trust: Arc<ClientConfig>,
    _directory: TempDir,
}

/// In the directory of the origins: their certificate and its key.
pub(crate) const CERTIFICATE: &str = "certificate";
pub(crate) const KEY: &str = "key";

impl World {
    pub(crate) fn start() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let names = ["origin.test".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        fs::write(directory.path().join(CERTIFICATE), made.cert.der())?;
        fs::write(directory.path().join(KEY), made.signing_key.serialize_der())?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("origins").arg(directory.path()).stdout(Stdio::piped());
        let mut group = Group::spawn(&mut command)?;
        let output = group.child().stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let Ports { http, opaque, tls, dns } = serde_json::from_str(&line)?;
        let trust = Arc::new(trust(made.cert.der().clone())?);
        Ok(Self { _group: group, http, opaque, tls, dns, trust, _directory: directory })
    }
}

fn trust(certificate: CertificateDer<'static>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(io::Error::other)?;
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
