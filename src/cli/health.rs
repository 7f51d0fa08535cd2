//! `exeat health`: exit 0 if a proxy answers, 1 if not. No other tool is needed in a container.

use std::{
    io::{self, Read as _, Write as _},
    time::Duration,
};

use clap::Args;

use super::{
    Exit, complain,
    proxy::{default_url, parse},
};
use crate::{jail::dial, net::Authority, settings::Environment};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it answers, 1 it does not, as container health checks want it; 64 usage"
)]
pub(super) struct Health {
    /// The proxy's URL [default: `$EXEAT_LISTEN`, then `http://127.0.0.1:3128`]
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
        let proxy = match parse(&url) {
            Ok(proxy) => proxy,
            Err(exit) => return exit,
        };
        match ask(&proxy) {
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
    let mut stream = dial(proxy, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {proxy}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
