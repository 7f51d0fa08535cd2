//! The program's own log, on standard error.
//!
//! `EXEAT_LOG` takes a level or filters such as `exeat=debug`; the default is `info`. Host names
//! and client addresses are logged at debug level only: who went where is the audit's business.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts the log; `filter` is the text of `EXEAT_LOG`.
///
/// A second call in one process changes nothing.
pub fn start_log(filter: Option<&str>) {
    let filter =
        EnvFilter::try_new(filter.unwrap_or("info")).unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    if started.is_err() {
        tracing::debug!("the log was started before");
    }
}
