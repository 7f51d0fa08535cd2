//! Origins of the test's own: HTTP, TLS, and raw sockets, on loopback.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls};

/// An HTTP/1.1 origin. It answers every request with a JSON description of it, unless a file
/// stands at its path.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    directory: Mutex<Option<PathBuf>>,
    requests: Mutex<Vec<Value>>,
    connections: AtomicUsize,
    extra: Mutex<Vec<(String, String)>>,
}

/// An HTTPS origin with a certificate of its own authority.
#[derive(Debug, Clone)]
pub(crate) struct TlsOrigin {
    pub(crate) origin: Origin,
    /// The authority's certificate, PEM.
    pub(crate) authority_pem: String,
}

/// A socket on which a test does what it likes.
#[derive(Debug)]
pub(crate) struct RawOrigin {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// A listener that never accepts and whose queue is full: who dials it waits.
#[derive(Debug)]
pub(crate) struct FullListener {
    pub(crate) address: SocketAddr,
    _sockets: Vec<Socket>,
}

impl FullListener {
    pub(crate) fn bind() -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&loopback.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut sockets = vec![listener];
        for _ in 0..4 {
            let filler = socket();
            filler.set_nonblocking(true).unwrap();
            filler.connect(&address.into()).ok();
            sockets.push(filler);
        }
        Self { address, _sockets: sockets }
    }
}

impl Origin {
    pub(crate) async fn start() -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// On a socket that listens already.
    pub(crate) fn start_on(listener: TcpListener) -> Self {
        let origin = Self::at(&listener);
        let served = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&served.shared)));
            }
        });
        origin
    }

    /// The same at a path; its address means nothing.
    #[cfg(unix)]
    pub(crate) fn start_at(path: &std::path::Path) -> Self {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let origin =
            Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), shared: Arc::default() };
        let served = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&served.shared)));
            }
        });
        origin
    }

    fn at(listener: &TcpListener) -> Self {
        Self { address: listener.local_addr().unwrap(), shared: Arc::default() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Serves bytes at a path.
    pub(crate) fn file(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.shared.files.lock().unwrap().insert(path.to_owned(), content.into());
    }

    /// Serves a directory; paths are below it.
    pub(crate) fn directory(&self, directory: PathBuf) {
        *self.shared.directory.lock().unwrap() = Some(directory);
    }

    /// Adds a field to every answer.
    pub(crate) fn answer_field(&self, name: &str, value: &str) {
        self.shared.extra.lock().unwrap().push((name.to_owned(), value.to_owned()));
    }

    /// Every request so far: method, target, fields, body.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl TlsOrigin {
    pub(crate) async fn start(names: &[&str]) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), names)
    }

    /// On a socket that listens already.
    pub(crate) fn start_on(listener: TcpListener, names: &[&str]) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // OpenSSL takes a certificate for self-signed whose issuer has its own name.
        params.distinguished_name.push(DnType::CommonName, "exeat test authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &authority).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let origin = Origin::at(&listener);
        let served = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.shared.connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&served.shared));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, shared).await;
                    }
                });
            }
        });
        Self { origin, authority_pem: authority.pem() }
    }
}

impl RawOrigin {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The next connection, and the head of its first request.
    pub(crate) async fn accept_request(&self) -> (TcpStream, String) {
        let mut stream = self.accept().await;
        let head = super::read_head(&mut stream).await;
        (stream, head)
    }

    pub(crate) async fn accept(&self) -> TcpStream {
        tokio::time::timeout(super::PATIENCE, self.listener.accept()).await.unwrap().unwrap().0
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let fields: Vec<[String; 2]> = parts
        .headers
        .iter()
        .map(|(name, value)| [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()])
        .collect();
    let description = json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "fields": fields,
        "body": String::from_utf8_lossy(&body),
    });
    shared.requests.lock().unwrap().push(description.clone());
    let path = parts.uri.path();
    let content = shared.files.lock().unwrap().get(path).cloned().or_else(|| {
        let directory = shared.directory.lock().unwrap().clone()?;
        std::fs::read(directory.join(path.trim_start_matches('/'))).ok()
    });
    let has_directory = shared.directory.lock().unwrap().is_some();
    let mut response = match content {
        Some(content) => Response::new(Full::new(Bytes::from(content))),
        None if has_directory => {
            Response::builder().status(404).body(Full::new(Bytes::new())).unwrap()
        }
        None => Response::new(Full::new(Bytes::from(description.to_string()))),
    };
    for (name, value) in shared.extra.lock().unwrap().iter() {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}
