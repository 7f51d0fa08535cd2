//! Descriptors: as many as the system lets this process have, and no more connections than that.
//!
//! What nobody asked for is lowered in silence, but for a word in the first lines: the system's
//! limit is an answer too. What somebody asked for is kept, with a warning if it does not fit: then
//! it is the system that turns clients away, and not a place that we know of.

#[cfg(unix)]
use crate::proxy::Pipes;
use crate::settings::{Asked, Limits};

/// What is open beside connections, at most: standard streams, policy, audit, the runtimes' own,
/// pipes, DNS sockets, connections that are turned away.
#[cfg(unix)]
const OTHERS: u64 = 512 + Pipes::DESCRIPTORS;

/// What limits mean for a process with so many descriptors.
#[cfg(unix)]
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    /// They fit.
    All,
    /// They have been lowered.
    Lowered,
    /// They do not fit, and cannot be lowered to: so many are needed.
    TooFew(u64),
}

/// Raises the soft limit to the hard one, and lowers those of `limits` that nobody asked for until
/// they fit. Returns a remark for the operator, if they had to be lowered.
#[cfg(unix)]
pub(super) fn raise(limits: &mut Limits, asked: Asked) -> Option<String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // None: without limit.
    let available = if raised.is_ok() { maximum } else { current }?;
    match fit(limits, asked, available) {
        Fit::All => None,
        Fit::Lowered => Some(format!(
            "at most {} connections and {} idle ones to origins, for {available} open files \
             (ulimit -Hn)",
            limits.connections, limits.idle_origins
        )),
        Fit::TooFew(needed) => {
            tracing::warn!(
                limit = available,
                needed,
                "`[limits]` allows more than this process may open: raise the hard limit of open \
                 files (ulimit -Hn, LimitNOFILE=), or lower `connections`"
            );
            None
        }
    }
}

/// There is no such limit elsewhere.
#[cfg(not(unix))]
pub(super) fn raise(_: &mut Limits, _: Asked) -> Option<String> {
    None
}

/// Each connection has two ends while it is served; kept connections to origins have one, and get
/// an eighth where there is not enough for both. Of few descriptors a quarter is left for others.
#[cfg(unix)]
fn fit(limits: &mut Limits, asked: Asked, available: u64) -> Fit {
    let others = OTHERS.min(available / 4);
    let room = usize::try_from(available - others).unwrap_or(usize::MAX);
    let before = (limits.connections, limits.idle_origins);
    if sockets(limits) > room && asked.idle_origins.is_none() {
        let left = match asked.connections {
            Some(connections) => room.saturating_sub(connections.saturating_mul(2)),
            None => room / 8,
        };
        limits.idle_origins = limits.idle_origins.min(left.max(1));
    }
    if sockets(limits) > room && asked.connections.is_none() {
        let left = room.saturating_sub(limits.idle_origins) / 2;
        limits.connections = limits.connections.min(left.max(1));
    }
    if sockets(limits) > room {
        let needed = u64::try_from(sockets(limits)).unwrap_or(u64::MAX);
        Fit::TooFew(needed.saturating_add(others))
    } else if (limits.connections, limits.idle_origins) == before {
        Fit::All
    } else {
        Fit::Lowered
    }
}

#[cfg(unix)]
fn sockets(limits: &Limits) -> usize {
    limits.connections.saturating_mul(2).saturating_add(limits.idle_origins)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Environment, Flags, Settings, SettingsFile};

    /// The connections and idle origins of a file, for so many descriptors.
    fn fitted(file: &str, available: u64) -> (usize, usize, Fit) {
        let file = SettingsFile::parse(file).unwrap();
        let mut settings = Settings::resolve(Flags::default(), Environment::default(), file);
        let fit = fit(&mut settings.limits, settings.asked, available);
        (settings.limits.connections, settings.limits.idle_origins, fit)
    }

    #[test]
    fn what_nobody_asked_for_is_lowered() {
        assert_eq!(fitted("", 1_048_576), (10_000, 1_024, Fit::All));
        assert_eq!(fitted("", 21_664), (10_000, 1_024, Fit::All));
        assert_eq!(fitted("", 20_000), (9_168, 1_024, Fit::Lowered));
        assert_eq!(fitted("", 4_096), (1_512, 432, Fit::Lowered));
        assert_eq!(fitted("", 1_024), (336, 96, Fit::Lowered));
        assert_eq!(fitted("", 64), (21, 6, Fit::Lowered));
    }

    #[test]
    fn what_somebody_asked_for_is_kept() {
        let connections = "[limits]\nconnections = 1000";
        assert_eq!(fitted(connections, 3_664), (1_000, 1_024, Fit::All));
        assert_eq!(fitted(connections, 2_728), (1_000, 88, Fit::Lowered));
        assert_eq!(fitted(connections, 2_500), (1_000, 1, Fit::TooFew(2_626)));
        let idle = "[limits]\nidle_origins = 500";
        assert_eq!(fitted(idle, 2_048), (518, 500, Fit::Lowered));
        assert_eq!(fitted(idle, 300), (1, 500, Fit::TooFew(577)));
        let both = "[limits]\nconnections = 10000\nidle_origins = 1024";
        assert_eq!(fitted(both, 20_000), (10_000, 1_024, Fit::TooFew(21_664)));
    }
}
