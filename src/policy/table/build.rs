//! Building the table: gathering the rules of each base, inheriting from above, finding what is
//! said twice or in vain.
//!
//! Two passes. Each rule is put at its base; a second rule there makes a node. A base of three labels
//! or more is announced at its anchor, at once: what many lookups meet first is early in its line.
//! Then bases are settled, shallow ones first, so that each finds what it inherits. Work is linear in the text of the rules: a base looks at most
//! once at each depth that exists above it.

use std::collections::BTreeMap;

use super::{
    Final, Key, Keys, Line, Place, Roots, Table, Tag, Verdict,
    asking::{AskId, Asks},
    line::{NodeId, Record, Target},
    node::{Depths, Node, Nodes, Packed},
    own::{Met, Own},
};
use crate::{
    net::DnsName,
    policy::{
        List, Pattern, RuleId, Rules, Shape,
        automaton::Budget,
        candidate::Candidate,
        rules::{Full, Reach, What},
    },
};

/// Something about two rules that their author should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Finding {
    /// `rule` was written before.
    Duplicate { rule: RuleId, first: RuleId },
    /// `rule` was written before in the other list.
    Opposite { rule: RuleId, first: RuleId },
    /// `allow` can never allow anything, because of `deny`.
    Shadowed { allow: RuleId, deny: RuleId },
}

/// A table in the making.
struct Builder<'r> {
    rules: &'r Rules,
    table: Table,
    /// The rules at the bases that have nodes. Until it is settled, a node says where it is here.
    owns: Vec<Own>,
    /// Nodes with two labels.
    shallow: Vec<NodeId>,
    /// Everything with more, and how many.
    deep: Vec<(usize, Target)>,
    roots: BTreeMap<Box<str>, Own>,
    everywhere: Own,
    budget: Budget,
    findings: Vec<Finding>,
}

/// Records a line holds on average, at most: one in nine lines is full then, usually far fewer.
const FILL: usize = 8;

impl Table {
    /// Builds the table of all rules about names, and says what was found on the way.
    pub(in crate::policy) fn new(rules: &Rules, seed: u64) -> Result<(Self, Vec<Finding>), Full> {
        let mut builder = Builder::new(rules, seed);
        builder.gather()?;
        builder.settle()?;
        builder.table.fit(rules);
        Ok((builder.table, builder.findings))
    }

    fn empty(keys: Keys, records: usize) -> Self {
        Self {
            keys,
            lines: vec![Line::EMPTY; records / FILL + 1],
            nodes: Nodes::default(),
            asks: Asks::default(),
            roots: Roots { labels: BTreeMap::new(), everywhere: Verdict::Nothing },
        }
    }

    /// Points a name that has no record yet at one. There are more slots than records.
    fn insert(&mut self, hash: u64, target: Target) {
        let mut at = self.line_of(hash);
        while let Some(line) = self.lines.get_mut(at) {
            if line.push(Tag::of(hash), target) {
                return;
            }
            at = if at + 1 == self.lines.len() { 0 } else { at + 1 };
        }
    }

    /// Gives back the lines that were reserved and not needed.
    fn fit(&mut self, rules: &Rules) {
        self.nodes.shrink();
        let records = self.lines.iter().map(Line::used).sum::<usize>();
        let enough = records / FILL + 1;
        if self.lines.len() <= enough + enough / 16 {
            return;
        }
        let lines = std::mem::replace(&mut self.lines, vec![Line::EMPTY; enough]);
        for target in lines.iter().flat_map(Line::targets) {
            if let Some(name) = self.name_of(rules, target) {
                self.insert(self.sought(name).hash, target);
            }
        }
    }
}

impl<'r> Builder<'r> {
    fn new(rules: &'r Rules, seed: u64) -> Self {
        let mut records = 0;
        for (rule, record) in rules.records() {
            // Itself, and perhaps one at its anchor.
            records += match record.what {
                What::Names(_, base) if labels_of_record(rules, rule, base) <= 2 => 1,
                What::Names(..) | What::Other(_) => 2,
            };
        }
        Self {
            rules,
            table: Table::empty(Keys::new(seed), records),
            owns: Vec::new(),
            shallow: Vec::new(),
            deep: Vec::new(),
            roots: BTreeMap::new(),
            everywhere: Own::default(),
            budget: Budget::whole(),
            findings: Vec::new(),
        }
    }

    /// Puts every rule at its base.
    fn gather(&mut self) -> Result<(), Full> {
        for (rule, record) in self.rules.records() {
            match record.what {
                What::Names(reach, base) => self.add(rule, record.list, reach, base)?,
                What::Other(pattern) => self.add_other(rule, record.list, pattern)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, rule: RuleId, list: List, reach: Reach, base: &'r [u8]) -> Result<(), Full> {
        let labels = labels_of_record(self.rules, rule, base);
        if labels > 1 {
            let (hash, found) = self.find_base(rule, base);
            match found.map(Target::record) {
                None => {
                    self.table.insert(hash, rule.into());
                    if labels > 2 {
                        self.deep.push((labels, rule.into()));
                        self.announce(base, labels)?;
                    }
                    return Ok(());
                }
                Some(Record::Rule(first)) if self.rules.says(first) == self.rules.says(rule) => {
                    self.findings.push(Finding::Duplicate { rule, first });
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        match self.own(base)?.add(rule, list, reach) {
            Met::New => {}
            Met::Same(first) => self.findings.push(Finding::Duplicate { rule, first }),
            Met::Opposite(first) => self.findings.push(Finding::Opposite { rule, first }),
        }
        Ok(())
    }

    /// What is at the base of a rule, and the hash that it is found by.
    fn find_base(&self, rule: RuleId, base: &[u8]) -> (u64, Option<Target>) {
        match self.rules.ending(rule).and_then(Key::of_record) {
            Some(key) => {
                let hash = key.hash(&self.table.keys);
                (hash, self.table.find_key(self.rules, key, hash))
            }
            None => {
                let sought = self.table.sought(base);
                (sought.hash, self.table.find_sought(self.rules, &sought))
            }
        }
    }

    /// Allows on one port, wildcards inside labels, and `*`. Addresses have a place of their own.
    fn add_other(&mut self, rule: RuleId, list: List, pattern: &'r Pattern) -> Result<(), Full> {
        let candidate = Candidate::new(rule, pattern);
        let (reach, base) = match pattern.shape() {
            Shape::Address(_) => return Ok(()),
            Shape::Any => {
                self.everywhere.add_on_port(candidate, Reach::Tree);
                return Ok(());
            }
            Shape::Glob(glob) => {
                // Over addresses, it allows no names.
                if !(glob.is_over_address() && list == List::Allow) {
                    self.own(glob.literal_end().as_bytes())?.add_glob(candidate, list, glob);
                }
                return Ok(());
            }
            Shape::Exact(name) => (Reach::Exact, name),
            Shape::Subdomains(base) => (Reach::Below, base),
            Shape::Tree(base) => (Reach::Tree, base),
        };
        self.own(base.as_bytes())?.add_on_port(candidate, reach);
        Ok(())
    }

    /// The rules at a base, which has a node from now on.
    fn own(&mut self, base: &[u8]) -> Result<&mut Own, Full> {
        let number = match labels_of(base) {
            _ if base.is_empty() => return Ok(&mut self.everywhere),
            1 => return Ok(self.roots.entry(text_of(base)?.into()).or_default()),
            _ => self.node(base)?.1,
        };
        self.owns.get_mut(number).ok_or(Full)
    }

    /// The node of a name, and the number of its rules; made if need be.
    fn node(&mut self, name: &[u8]) -> Result<(NodeId, usize), Full> {
        let sought = self.table.sought(name);
        let found = self.table.find_sought(self.rules, &sought).map(Target::record);
        if let Some(Record::Node(node)) = found {
            return Ok((node, self.number_of(node).ok_or(Full)?));
        }
        let node = self.table.nodes.push(name).ok_or(Full)?;
        let number = self.owns.len();
        let here = u32::try_from(number).map(Verdict::unsettled).map_err(|_| Full)?;
        let (here, below) = (Packed::new(here), Packed::new(Verdict::Nothing));
        let unsettled = Node { here, below, depths: Depths::default() };
        self.table.nodes.set(node, unsettled);
        self.owns.push(Own::default());
        let labels = labels_of(name);
        match found {
            Some(Record::Rule(rule)) => {
                if let Some((Place { line, slot }, _)) = self.table.search(self.rules, &sought)
                    && let Some(line) = self.table.lines.get_mut(line)
                {
                    line.set(slot, node.into());
                }
                if let (Some(own), Some((list, reach))) =
                    (self.owns.get_mut(number), self.rules.says(rule))
                {
                    own.add(rule, list, reach);
                }
            }
            _ => {
                self.table.insert(sought.hash, node.into());
                if labels > 2 {
                    self.deep.push((labels, node.into()));
                    self.announce(name, labels)?;
                }
            }
        }
        if labels == 2 {
            self.shallow.push(node);
        }
        Ok((node, number))
    }

    fn number_of(&self, node: NodeId) -> Option<usize> {
        self.table.nodes.get(node)?.here.verdict().number()
    }

    /// Makes sure that a lookup that starts at the anchor finds what lies deeper.
    fn announce(&mut self, name: &[u8], labels: usize) -> Result<(), Full> {
        let (_, number) = self.node(DnsName::anchor_of(name))?;
        if let Some(own) = self.owns.get_mut(number) {
            own.depths.insert(labels);
        }
        Ok(())
    }

    /// Makes final what holds at every base, from above.
    fn settle(&mut self) -> Result<(), Full> {
        let mut everywhere = std::mem::take(&mut self.everywhere);
        let finals = everywhere.settle(
            self.rules,
            Verdict::Nothing,
            &mut self.table.asks,
            &mut self.budget,
        )?;
        self.table.roots.everywhere = finals.below;
        for (label, mut own) in std::mem::take(&mut self.roots) {
            let finals =
                own.settle(self.rules, finals.below, &mut self.table.asks, &mut self.budget)?;
            self.look_for_shadows(&own, finals, &label);
            self.table.roots.labels.insert(label, finals);
        }
        let mut bases: Vec<(usize, Target)> =
            self.shallow.iter().map(|node| (2, Target::from(*node))).collect();
        if self.may_deny_everywhere() {
            let alone = self.table.lines.iter().flat_map(Line::targets).filter(|target| {
                let name = self.table.name_of(self.rules, *target);
                matches!(target.record(), Record::Rule(_)) && name.map(labels_of) == Some(2)
            });
            bases.extend(alone.map(|target| (2, target)));
        }
        // Within a depth, in the order they were written.
        self.deep.sort_by_key(|(labels, _)| *labels);
        bases.append(&mut self.deep);
        for (_, target) in bases {
            self.settle_base(target)?;
        }
        Ok(())
    }

    /// Whether something denies names whose own domain no rule speaks about.
    fn may_deny_everywhere(&self) -> bool {
        let roots = self.table.roots.labels.values().map(|root| root.below);
        roots.chain([self.table.roots.everywhere]).any(|verdict| self.may_deny(verdict))
    }

    fn may_deny(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Deny(_) => true,
            Verdict::Ask(ask) => self.table.asks.may_deny(ask),
            Verdict::Allow(_) | Verdict::Nothing => false,
        }
    }

    fn settle_base(&mut self, target: Target) -> Result<(), Full> {
        let name = self.name(target)?;
        let (above, is_root) = self.above(&name);
        // A rule alone that inherits nothing stands as it is; what the roots say, a lookup asks
        // where a rule says nothing.
        if let Some(Record::Rule(rule)) = self.table.find(self.rules, &name).map(Target::record) {
            let denies = self.rules.says(rule).is_some_and(|(list, _)| list == List::Deny);
            if above == Verdict::Nothing || is_root && (denies || !self.may_deny(above)) {
                return Ok(());
            }
        }
        let (node, number) = self.node(&name)?;
        let mut own = self.owns.get_mut(number).map(std::mem::take).ok_or(Full)?;
        let Final { here, below } =
            own.settle(self.rules, above, &mut self.table.asks, &mut self.budget)?;
        let packed =
            Node { here: Packed::new(here), below: Packed::new(below), depths: own.depths };
        self.table.nodes.set(node, packed);
        self.look_for_shadows(&own, Final { here, below }, text_of(&name)?);
        Ok(())
    }

    /// What holds below the nearest record above, and whether that is a root.
    fn above(&self, name: &[u8]) -> (Verdict, bool) {
        let mut labels = labels_of(name);
        let mut rest = name;
        let anchor = self.table.find(self.rules, DnsName::anchor_of(name));
        let depths = anchor.map(|target| self.depths(target)).unwrap_or_default();
        while labels > 2
            && let Some(dot) = rest.iter().position(|byte| *byte == b'.')
        {
            (rest, labels) = (rest.get(dot + 1..).unwrap_or_default(), labels - 1);
            if (labels == 2 || depths.contain(labels))
                && let Some(target) = self.table.find(self.rules, rest)
                && let below = self.table.says(self.rules, target, false)
                && below != Verdict::Nothing
            {
                return (below, false);
            }
        }
        // A base that says nothing about what is below leaves it to the roots, as its own do.
        (text_of(name).map_or(Verdict::Nothing, |name| self.table.roots.of_label(name)), true)
    }

    fn depths(&self, target: Target) -> Depths {
        match target.record() {
            Record::Rule(_) => Depths::default(),
            Record::Node(node) => {
                self.table.nodes.get(node).map(|node| node.depths).unwrap_or_default()
            }
        }
    }

    fn look_for_shadows(&mut self, own: &Own, finals: Final, name: &str) {
        let exact = |rule| self.rules.says(rule).is_some_and(|(_, reach)| reach == Reach::Exact);
        self.findings.extend(
            own.shadowed(finals, exact).map(|(allow, deny)| Finding::Shadowed { allow, deny }),
        );
        if let (Some(allow), Verdict::Ask(ask)) = (own.exact_allow(), finals.here)
            && let Some(deny) = self.table.asks.denying(ask, name.as_bytes())
        {
            self.findings.push(Finding::Shadowed { allow, deny: deny.rule });
        }
    }

    fn name(&self, target: Target) -> Result<Vec<u8>, Full> {
        self.table.name_of(self.rules, target).map(<[u8]>::to_vec).ok_or(Full)
    }
}

impl Verdict {
    /// What a node says until it is settled: the number of its rules.
    fn unsettled(number: u32) -> Self {
        Self::Ask(AskId(number))
    }

    fn number(self) -> Option<usize> {
        match self {
            Self::Ask(AskId(number)) => usize::try_from(number).ok(),
            Self::Allow(_) | Self::Deny(_) | Self::Nothing => None,
        }
    }
}

/// A name's text: names are ASCII.
fn text_of(name: &[u8]) -> Result<&str, Full> {
    std::str::from_utf8(name).map_err(|_| Full)
}

/// The same of the base of a rule, nearly always at once.
fn labels_of_record(rules: &Rules, rule: RuleId, base: &[u8]) -> usize {
    let key = rules.ending(rule).and_then(Key::of_record);
    key.map_or_else(|| labels_of(base), |key| key.labels())
}

fn labels_of(name: &[u8]) -> usize {
    name.iter().filter(|byte| **byte == b'.').count() + 1
}
