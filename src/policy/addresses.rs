//! The rules of one list about addresses: literals, and globs over their text.
//!
//! Addresses never meet the table of names: as text, `10.0.0.1` would lie below `0.1`.

use std::{collections::BTreeMap, net::IpAddr};

use super::{List, Rules, Shape, automaton::Budget, candidate::Candidate, group::Group};

/// Literals and globs over addresses of one list.
#[derive(Debug)]
pub(super) struct Addresses {
    literals: BTreeMap<IpAddr, Vec<Candidate>>,
    globs: Group,
}

impl Addresses {
    pub(super) fn new(rules: &Rules, list: List) -> Self {
        let mut literals: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut globs = Vec::new();
        for (rule, pattern) in rules.others(list) {
            let candidate = Candidate::new(rule, pattern);
            match pattern.shape() {
                Shape::Address(address) => literals.entry(*address).or_default().push(candidate),
                Shape::Glob(glob) if glob.is_over_address() => {
                    globs.push((candidate, glob.clone()));
                }
                Shape::Any
                | Shape::Exact(_)
                | Shape::Glob(_)
                | Shape::Subdomains(_)
                | Shape::Tree(_) => {}
            }
        }
        Self { literals, globs: Group::new(globs, &mut Budget::whole()) }
    }

    /// All that speak about the address, in no order.
    pub(super) fn matching(&self, address: IpAddr) -> Vec<Candidate> {
        let mut found = self.literals.get(&address).cloned().unwrap_or_default();
        if !self.globs.is_empty() {
            self.globs.each(address.to_string().as_bytes(), |candidate| found.push(candidate));
        }
        found
    }
}
