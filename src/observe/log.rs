//! The program's own log, on standard error.
//!
//! `EXEAT_LOG` takes a level or filters such as `exeat=debug`; the default is `info`. Host names
//! and client addresses are logged at debug level only: who went where is the audit's business.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts the log; `filter` is the text of `EXEAT_LOG`.
///
/// A second call in one process changes nothing.
///
/// # Errors
///
/// The filter cannot be understood.
pub fn start_log(filter: Option<&str>) -> Result<(), LogError> {
    let text = filter.unwrap_or("info");
    let filter = EnvFilter::try_new(text).map_err(|_| LogError(text.to_owned()))?;
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    if started.is_err() {
        tracing::debug!("the log was started before");
    }
    Ok(())
}

/// A log filter that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable EXEAT_LOG is `{0}`: write a level (error, warn, info, debug, trace)")]
pub struct LogError(String);
