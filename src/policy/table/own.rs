//! The rules at one base while the table is built, and what is final there given what holds above.

use super::{
    Final, Verdict,
    asking::{Asking, Asks},
    node::Depths,
};
use crate::policy::{
    List, RuleId, Rules,
    automaton::Budget,
    candidate::Candidate,
    glob::Glob,
    group::Group,
    rules::{Full, Reach},
};

/// All rules at one base.
#[derive(Debug, Default)]
pub(super) struct Own {
    allows: Names,
    denies: Names,
    pub(super) depths: Depths,
    /// Allows that are narrowed to a port, and `*`.
    on_ports: Vec<(RuleId, Reach)>,
    more: Option<Box<More>>,
}

/// The rules of one list about names, the first of each reach.
#[derive(Debug, Default)]
struct Names {
    exact: Option<RuleId>,
    below: Option<RuleId>,
    tree: Option<RuleId>,
}

/// What few bases have.
#[derive(Debug, Default)]
struct More {
    /// Allows on one port, for the base itself and for what is below.
    ports_here: Vec<Candidate>,
    ports_below: Vec<Candidate>,
    deny_globs: Vec<(Candidate, Glob)>,
    allow_globs: Vec<(Candidate, Glob)>,
}

/// What adding a rule meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    New,
    /// The same rule is there already.
    Same(RuleId),
    /// The other list says the opposite.
    Opposite(RuleId),
}

impl Own {
    /// Adds a rule about names; one that is there already changes nothing.
    pub(super) fn add(&mut self, rule: RuleId, list: List, reach: Reach) -> Met {
        let (own, other) = match list {
            List::Allow => (&mut self.allows, &mut self.denies),
            List::Deny => (&mut self.denies, &mut self.allows),
        };
        if let Some(same) = *own.slot(reach) {
            return Met::Same(same);
        }
        *own.slot(reach) = Some(rule);
        other.slot(reach).map_or(Met::New, Met::Opposite)
    }

    /// Adds an allow that is narrowed to a port, or `*`.
    pub(super) fn add_on_port(&mut self, candidate: Candidate, reach: Reach) {
        self.on_ports.push((candidate.rule, reach));
        let more = self.more.get_or_insert_default();
        if reach != Reach::Below {
            more.ports_here.push(candidate);
        }
        if reach != Reach::Exact {
            more.ports_below.push(candidate);
        }
    }

    /// Adds a glob of which everything that matches lies below this base.
    pub(super) fn add_glob(&mut self, candidate: Candidate, list: List, glob: &Glob) {
        let more = self.more.get_or_insert_default();
        match list {
            List::Allow => more.allow_globs.push((candidate, glob.clone())),
            List::Deny => more.deny_globs.push((candidate, glob.clone())),
        }
    }

    /// What is final, given what is final above.
    pub(super) fn settle(
        &mut self,
        rules: &Rules,
        above: Verdict,
        asks: &mut Asks,
        budget: &mut Budget,
    ) -> Result<Final, Full> {
        let more = self.more.take().map(|more| *more).unwrap_or_default();
        let portless = |rule| Candidate::portless(rules, rule);
        let here = Side {
            deny: self.denies.here(),
            allow: self.allows.here().and_then(portless),
            asking: Asking { on_ports: more.ports_here, ..Asking::default() },
        };
        let mut group =
            |globs: Vec<_>| (!globs.is_empty()).then(|| Box::new(Group::with_end(globs, budget)));
        let below = Side {
            deny: self.denies.wide(),
            allow: self.allows.wide().and_then(portless),
            asking: Asking {
                on_ports: more.ports_below,
                deny_globs: group(more.deny_globs),
                allow_globs: group(more.allow_globs),
                ..Asking::default()
            },
        };
        Ok(Final {
            here: here.settle(rules, above, asks)?,
            below: below.settle(rules, above, asks)?,
        })
    }

    /// The allows that something denies all the same, each with the rule that does.
    pub(super) fn shadowed(
        &self,
        finals: Final,
        is_exact: impl Fn(RuleId) -> bool,
    ) -> impl Iterator<Item = (RuleId, RuleId)> {
        let denied = |verdict| match verdict {
            Verdict::Deny(rule) => Some(rule),
            Verdict::Allow(_) | Verdict::Ask(_) | Verdict::Nothing => None,
        };
        let (here, below) = (denied(finals.here), denied(finals.below));
        // A rule that covers the base and is not exact covers all below it too.
        let all = here.filter(|deny| !is_exact(*deny));
        let denied = move |reach| match reach {
            Reach::Exact => here,
            Reach::Below => below,
            Reach::Tree => all,
        };
        let Names { exact, below: under, tree } = self.allows;
        let own = [(exact, Reach::Exact), (under, Reach::Below), (tree, Reach::Tree)];
        let own = own.into_iter().filter_map(|(rule, reach)| Some((rule?, reach)));
        let all = own.chain(self.on_ports.iter().copied());
        all.filter_map(move |(allow, reach)| Some((allow, denied(reach)?)))
    }

    /// The rule that allows exactly the base.
    pub(super) fn exact_allow(&self) -> Option<RuleId> {
        self.allows.exact
    }
}

impl Names {
    fn slot(&mut self, reach: Reach) -> &mut Option<RuleId> {
        match reach {
            Reach::Exact => &mut self.exact,
            Reach::Below => &mut self.below,
            Reach::Tree => &mut self.tree,
        }
    }

    /// The most specific about the base itself.
    fn here(&self) -> Option<RuleId> {
        self.exact.or(self.tree)
    }

    /// The first written about everything below.
    fn wide(&self) -> Option<RuleId> {
        match (self.below, self.tree) {
            (Some(below), Some(tree)) => Some(below.min(tree)),
            (below, tree) => below.or(tree),
        }
    }
}

/// One of the two: the base itself, or what is below.
struct Side {
    deny: Option<RuleId>,
    allow: Option<Candidate>,
    /// What else is to be asked.
    asking: Asking,
}

impl Side {
    fn settle(self, rules: &Rules, above: Verdict, asks: &mut Asks) -> Result<Verdict, Full> {
        let (denied, allowed, asked) = match above {
            Verdict::Deny(rule) => (Some(rule), None, None),
            Verdict::Allow(rule) => (None, Candidate::portless(rules, rule), None),
            Verdict::Ask(ask) => (None, asks.allow(ask), Some(ask)),
            Verdict::Nothing => (None, None, None),
        };
        if let Some(rule) = self.deny.or(denied) {
            return Ok(Verdict::Deny(rule));
        }
        let may_deny = asked.is_some_and(|ask| asks.may_deny(ask));
        match self.allow {
            None if self.asking.is_empty() => Ok(above),
            // Nothing from above is more specific, and no glob can deny it.
            Some(allow) if self.asking.is_empty() && !may_deny => Ok(Verdict::Allow(allow.rule)),
            own => {
                let asking = Asking { allow: own.or(allowed), above: asked, ..self.asking };
                asks.push(asking).map(Verdict::Ask).ok_or(Full)
            }
        }
    }
}
