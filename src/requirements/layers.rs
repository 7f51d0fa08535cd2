//! The chosen document under the denies of the system's.
//!
//! Deny is sticky: no layer lifts another's deny. Allows of the system file count only if it was
//! the one chosen.

use std::sync::Arc;

use crate::policy::{List, Outcome, Problem, Review, Ruleset, Source};

/// One document: its bytes, and where they come from.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// The text, not yet checked in any way.
    pub bytes: &'a [u8],
    /// Where it comes from.
    pub source: &'a Arc<Source>,
}

/// What follows from the layers.
#[derive(Debug)]
pub struct Applied {
    /// The rules in force.
    pub ruleset: Ruleset,
    /// Warnings about the chosen document.
    pub warnings: Vec<Problem>,
    /// Where the system file is and how many denies it added, if it is there.
    pub system: Option<(Arc<Source>, usize)>,
}

/// A layer that cannot be used.
#[derive(Debug)]
pub struct Rejected {
    /// Which one.
    pub source: Arc<Source>,
    /// Its text, for drawing.
    pub text: String,
    /// Everything wrong with it.
    pub problems: Vec<Problem>,
}

/// Puts the layers together. `seed` should be random (see [`Review::of`]).
///
/// # Errors
///
/// The first layer that has errors, or a chosen document that is no policy at all. A broken
/// system file refuses everything: its denies cannot be known.
pub fn apply(chosen: Layer<'_>, system: Option<Layer<'_>>, seed: u64) -> Result<Applied, Rejected> {
    let review = Review::of(chosen.bytes, chosen.source, seed);
    let Outcome::Ruleset(ruleset) = review.outcome else {
        return Err(chosen.rejected(review.problems));
    };
    let (ruleset, system) = match system {
        None => (*ruleset, None),
        Some(layer) => {
            let system = Review::of(layer.bytes, layer.source, seed);
            match system.outcome {
                Outcome::Broken => return Err(layer.rejected(system.problems)),
                Outcome::NoTable => (*ruleset, Some((Arc::clone(layer.source), 0))),
                Outcome::Ruleset(other) => {
                    let denies = other.count(List::Deny);
                    let both = ruleset
                        .with_denies_of(&other, seed)
                        .map_err(|error| chosen.rejected(vec![Problem::whole(&error)]))?;
                    (both, Some((Arc::clone(layer.source), denies)))
                }
            }
        }
    };
    Ok(Applied { ruleset, warnings: review.problems, system })
}

impl Layer<'_> {
    fn rejected(&self, problems: Vec<Problem>) -> Rejected {
        let text = String::from_utf8_lossy(self.bytes).into_owned();
        Rejected { source: Arc::clone(self.source), text, problems }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::Authority,
        policy::{Egress, Policy, SocketPath},
    };

    const CHOSEN: &[u8] = b"[experimental_network]\nenabled = true\nallowed_domains = [\"*\"]\n";

    fn both(system: &[u8]) -> Result<Applied, Rejected> {
        let chosen = Arc::new(Source::preset("agent"));
        let path = Arc::new(Source::file("/etc/codex/requirements.toml"));
        apply(
            Layer { bytes: CHOSEN, source: &chosen },
            Some(Layer { bytes: system, source: &path }),
            7,
        )
    }

    #[test]
    fn system_denies_stick() {
        let system = b"[experimental_network]\nallowed_domains = [\"intranet\"]\n\
                       denied_domains = [\"**.evil.test\"]\n";
        let applied = both(system).unwrap();
        assert_eq!(applied.system.unwrap().1, 1);
        let policy = Policy::new(applied.ruleset, Egress::default(), 1);
        let decide =
            |target: &str| policy.decide(&Authority::parse_connect(target.as_bytes()).unwrap());
        let denial = decide("a.evil.test:443").unwrap_err();
        let rule = policy.rule(denial.rule.unwrap()).unwrap();
        assert_eq!(rule.to_string(), "**.evil.test, requirements.toml:3");
        assert!(decide("good.test:443").is_ok());
        assert!(decide("intranet:443").is_err(), "its allows do not count");
    }

    #[test]
    fn system_denies_of_sockets_stick_too() {
        let text =
            b"[experimental_network]\nenabled = true\ndangerously_allow_all_unix_sockets = true\n";
        let source = Arc::new(Source::file("r.toml"));
        let chosen = Layer { bytes: text, source: &source };
        let system = b"[experimental_network]\nenabled = true\n\
                       unix_sockets = { \"/run/a\" = \"none\", \"/run/b\" = \"allow\" }\n";
        let both = apply(chosen, Some(Layer { bytes: system, source: &source }), 7).unwrap();
        let policy = Policy::new(both.ruleset, Egress::default(), 1);
        let decide = |path: &str| {
            policy.decide_socket(&SocketPath::parse(path.as_bytes()).unwrap(), |_, _, _| false)
        };
        assert!(decide("/run/a").is_err());
        assert!(decide("/run/c").is_ok());
    }

    #[test]
    fn a_broken_system_file_refuses() {
        assert!(both(b"[experimental_network]\ndeny_domains = []\n").is_err());
        assert_eq!(both(b"sandbox_mode = \"read-only\"\n").unwrap().system.unwrap().1, 0);
    }
}
