//! What anyone would write first: tokio, hyper and a `HashSet`.
//!
//! It has no deadlines, no limits, no log and checks no address, so its figures flatter it.

use std::{collections::HashSet, fs, io, net::Ipv4Addr, path::Path, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::{TcpListener, TcpStream};

use super::origin::parent_is_gone;

type Body = BoxBody<Bytes, hyper::Error>;

#[derive(Debug)]
struct Reference {
    allowed: HashSet<String>,
    client: Client<HttpConnector, Incoming>,
}

/// Serves until standard input ends. `allow` has a name a line.
pub(crate) fn serve(port: u16, allow: &Path) -> io::Result<()> {
    let allowed = fs::read_to_string(allow)?.lines().map(str::to_owned).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let reference = Arc::new(Reference { allowed, client });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        tokio::select! {
            done = accept(&listener, reference) => done,
            () = parent_is_gone() => Ok(()),
        }
    })
}

async fn accept(listener: &TcpListener, reference: Arc<Reference>) -> io::Result<()> {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        stream.set_nodelay(true).ok();
        let reference = Arc::clone(&reference);
        tokio::spawn(async move {
            let service = service_fn(|request| reference.answer(request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connection.with_upgrades().await.ok();
        });
    }
}

impl Reference {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
        let Some(host) = request.uri().host() else { return Ok(empty(StatusCode::BAD_REQUEST)) };
        if !self.allowed.contains(host) {
            return Ok(empty(StatusCode::FORBIDDEN));
        }
        if request.method() == Method::CONNECT {
            return Ok(tunnel(request).await);
        }
        let (mut head, body) = request.into_parts();
        for name in ["connection", "keep-alive", "proxy-connection", "te"] {
            head.headers.remove(name);
        }
        match self.client.request(Request::from_parts(head, body)).await {
            Ok(response) => Ok(response.map(BodyExt::boxed)),
            Err(_) => Ok(empty(StatusCode::BAD_GATEWAY)),
        }
    }
}

async fn tunnel(request: Request<Incoming>) -> Response<Body> {
    let host = request.uri().host().unwrap_or_default();
    let port = request.uri().port_u16().unwrap_or(443);
    let Ok(mut origin) = TcpStream::connect((host, port)).await else {
        return empty(StatusCode::BAD_GATEWAY);
    };
    origin.set_nodelay(true).ok();
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let mut client = TokioIo::new(upgraded);
        tokio::io::copy_bidirectional(&mut client, &mut origin).await.ok();
    });
    empty(StatusCode::OK)
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}
