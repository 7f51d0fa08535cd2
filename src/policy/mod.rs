//! From `requirements.toml` to a decision, and the decision to a permit.
//!
//! The path: [`Review`] reads a file into a [`Ruleset`] or into problems; [`Policy`] answers
//! [`Policy::decide`] for an authority and [`Policy::vet`] for each resolved address. Pure:
//! functions of values, no files, clock, sockets or logging. A [`Permit`], a
//! [`VettedAddress`] and a [`SocketPermit`] can be made nowhere else.

mod addresses;
mod automaton;
mod candidate;
mod compile;
mod decision;
mod difference;
mod document;
mod egress;
mod evaluate;
mod glob;
mod group;
mod keys;
mod lift;
mod pattern;
mod peer;
mod problem;
mod problems;
mod public_suffix;
pub mod reference;
mod review;
mod rule;
mod rules;
mod ruleset;
mod sockets;
mod suggestion;
mod table;
mod witness;

pub use decision::{Denial, Entrusted, Leave, Permit, Reason, VettedAddress};
pub use difference::{Change, Difference, LeaveChange, Ports, RuleChange, SwitchChange};
pub use document::MAX_BYTES;
pub use egress::{Egress, Mode};
pub use evaluate::Policy;
pub use glob::Glob;
pub use pattern::{Pattern, PatternError, Shape};
pub use peer::Peer;
pub use problem::{LineIndex, Position, Problem, Severity};
pub use review::{Outcome, Review};
pub use rule::{List, Rule, RuleId, Source};
pub use rules::Rules;
pub use ruleset::{Ruleset, Switch, TooManyRules};
pub use sockets::{SocketPath, SocketPathError, SocketPermit};
pub use suggestion::{Suggestion, suggest};
pub use witness::Witness;
