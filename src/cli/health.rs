//! `exeat health`: exit 0 if a proxy answers, 1 if not. No other tool is needed in a container.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
    time::Duration,
};

use clap::Args;

use super::{
    Exit, complain,
    proxy::{default_url, parse},
};
use crate::{
    jail::dial,
    net::Authority,
    settings::{Environment, Place, PlaceError},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it answers, 1 it does not, as container health checks want it; 64 usage"
)]
pub(super) struct Health {
    /// The proxy's URL, or `unix:` and a path [default: `$EXEAT_LISTEN`, then `http://127.0.0.1:3128`]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
}

/// For connecting to each address, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(3);

/// The answer is one line; anything longer is not exeat.
const MAX_ANSWER: u64 = 16 << 10;

impl Health {
    pub(super) fn run(self, environment: &Environment) -> Exit {
        let url = self.proxy.unwrap_or_else(|| default_url(environment));
        let (proxy, answer) = match url.parse() {
            Ok(Place::Unix(path)) => (url, ask_at(&path)),
            Ok(Place::Tcp(_)) | Err(PlaceError) => match parse(&url) {
                Ok(proxy) => (proxy.to_string(), ask(&proxy)),
                Err(exit) => return exit,
            },
        };
        match answer {
            Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {
                let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                writeln!(io::stdout(), "{}", body.trim()).ok();
                Exit::Success
            }
            Ok(answer) => {
                let line = answer.lines().next().unwrap_or("nothing").to_owned();
                complain(&format!("{proxy} answered: {line}"), Exit::No)
            }
            Err(error) => complain(&format!("{proxy} does not answer: {error}"), Exit::No),
        }
    }
}

/// The answer of `GET /healthz`, head and body.
///
/// # Errors
///
/// There is none.
pub(super) fn ask(proxy: &Authority) -> io::Result<String> {
    let stream = dial(proxy, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    talk(stream)
}

/// The same at a unix socket.
#[cfg(unix)]
fn ask_at(path: &Path) -> io::Result<String> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    talk(stream)
}

#[cfg(not(unix))]
fn ask_at(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::Unsupported.into())
}

fn talk(mut stream: impl io::Read + io::Write) -> io::Result<String> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: exeat\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
