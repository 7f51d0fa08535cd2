//! The decision: may this request leave, and may this address be dialled for it.
//!
//! The order of a decision is fixed: switched off, denied, local, not allowed, wrong port; then,
//! after DNS and for every address, denied and local again. Every way into the proxy and `exeat
//! check` ask here, so a checker and an enforcer cannot disagree.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use super::{
    Denial, Egress, Entrusted, List, Mode, Permit, Reason, Rule, RuleId, Ruleset, SocketPath,
    SocketPermit, VettedAddress,
    addresses::Addresses,
    candidate::Candidate,
    decision::Exemption,
    table::{AskId, Verdict},
};
use crate::net::{Authority, Host, IpClass, Port};

/// A policy in force: rules, switches, and the operator's exceptions.
#[derive(Debug)]
pub struct Policy {
    generation: u64,
    ruleset: Ruleset,
    /// The rules about addresses; those about names are in the ruleset's table.
    deny: Addresses,
    allow: Addresses,
    egress: Egress,
}

/// How local a host is, and so how narrow an allow must be to open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locality {
    /// This machine, a literal that is not globally reachable, a metadata service: by name only.
    Local,
    /// A name that exists inside networks only, or a literal in a range that the operator lists:
    /// by any pattern but `*`.
    Zone,
    /// Anything else.
    Public,
}

/// The most specific allow, its port considered.
enum Allowing {
    Nothing,
    OtherPort(RuleId),
    Rule(RuleId),
}

/// The most specific allows met so far.
struct Best {
    port: Port,
    fitting: Option<Candidate>,
    on_other_ports: Option<Candidate>,
}

impl Policy {
    /// Makes a policy of rules. `generation` counts the policies of one process.
    #[must_use]
    pub fn new(ruleset: Ruleset, egress: Egress, generation: u64) -> Self {
        let deny = Addresses::new(&ruleset.rules, List::Deny);
        let allow = Addresses::new(&ruleset.rules, List::Allow);
        Self { generation, ruleset, deny, allow, egress }
    }

    /// Decides by name or literal, without DNS.
    ///
    /// # Errors
    ///
    /// The denial, with the rule that decided.
    pub fn decide(&self, authority: &Authority) -> Result<Permit, Denial> {
        if !self.ruleset.enabled {
            return Err(Denial::built_in(Reason::ProxyDisabled));
        }
        let Host::Name(name) = &authority.host else {
            return self.weigh(authority, self.ruleset.table.everywhere());
        };
        let Ruleset { table, rules, .. } = &self.ruleset;
        match table.lookup(rules, name) {
            Verdict::Deny(rule) => Err(Denial::by_rule(Reason::Denied, rule)),
            Verdict::Nothing if !name.is_localhost() => self.not_allowed(authority),
            Verdict::Allow(rule) if !name.is_localhost() => {
                let host = Host::Name(name.clone());
                Ok(Permit::new(Authority { host, port: authority.port }, rule, Exemption::None))
            }
            verdict @ (Verdict::Allow(_) | Verdict::Ask(_) | Verdict::Nothing) => {
                self.weigh(authority, verdict)
            }
        }
    }

    /// Judges one resolved address for a permit.
    ///
    /// # Errors
    ///
    /// The denial, if the address is denied or local and nothing exempts it.
    pub fn vet(&self, permit: &Permit, address: IpAddr) -> Result<VettedAddress, Denial> {
        let address = address.to_canonical();
        let judged = IpClass::judged_address(address, &self.egress.nat64);
        let denying = [address, judged]
            .into_iter()
            .find_map(|address| self.deny.matching(address).into_iter().min());
        if let Some(candidate) = denying {
            return Err(Denial::by_rule(Reason::Denied, candidate.rule));
        }
        let destination = SocketAddr::new(address, permit.authority().port.number());
        let own = self.egress.is_own_listener(destination);
        if own || !self.may_reach(permit, address) {
            return Err(Denial::built_in(Reason::NotAllowedLocal));
        }
        Ok(VettedAddress::new(destination))
    }

    /// Decides about a unix socket, by where it is. `leads_to` says whether a path of a list leads to it over
    /// links, if it exists; of an allow only over those that nobody else could have made.
    ///
    /// # Errors
    ///
    /// The denial. A policy that only observes gives no leave for sockets: they are local.
    pub fn decide_socket(
        &self,
        socket: &SocketPath,
        leads_to: impl Fn(&SocketPath, List, &SocketPath) -> bool,
    ) -> Result<SocketPermit, Denial> {
        match self.ruleset.enabled {
            true => self.ruleset.sockets.decide(socket, leads_to),
            false => Err(Denial::built_in(Reason::ProxyDisabled)),
        }
    }

    /// Judges whether another proxy may be asked for a permit's host, which is then not looked up
    /// here: an address is vetted, a name is not known to be anything but a name.
    ///
    /// # Errors
    ///
    /// The denial of the address; or the host means this machine, and would mean the other one there.
    pub fn entrust(&self, permit: &Permit) -> Result<Entrusted, Denial> {
        match &permit.authority().host {
            Host::Ip(address) => {
                self.vet(permit, *address)?;
            }
            Host::Name(name) if name.is_localhost() => {
                return Err(Denial::built_in(Reason::NotAllowedLocal));
            }
            Host::Name(_) => {}
        }
        Ok(Entrusted::new(permit.authority().clone()))
    }

    /// Whether a connection to that address would arrive at this proxy.
    #[must_use]
    pub fn is_own_listener(&self, address: SocketAddr) -> bool {
        self.egress.is_own_listener(address)
    }

    /// The rule behind an id of this policy.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> Option<Rule<'_>> {
        self.ruleset.rules.get(id)
    }

    /// The rules and switches it was made of.
    #[must_use]
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// What happens to hosts that no rule speaks about.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.egress.mode
    }

    /// Which policy of this process it is, from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The ports that allows about the host are narrowed to, as far as they have a say.
    pub(super) fn ports_about(&self, host: &Host) -> BTreeSet<Port> {
        let Ruleset { table, rules, .. } = &self.ruleset;
        let verdict = match host {
            Host::Name(name) => table.lookup(rules, name),
            Host::Ip(_) => table.everywhere(),
        };
        let mut ports = BTreeSet::new();
        self.each_allow(host, verdict, |candidate| ports.extend(candidate.port));
        ports
    }

    /// The whole order of a decision, `verdict` being what the table says. For nearly every name
    /// nothing else has a say.
    #[cold]
    fn weigh(&self, authority: &Authority, verdict: Verdict) -> Result<Permit, Denial> {
        let Authority { host, port } = authority;
        if let Some(rule) = self.denying_rule(host, verdict) {
            return Err(Denial::by_rule(Reason::Denied, rule));
        }
        let locality = self.locality(host);
        let mut best = Best { port: *port, fitting: None, on_other_ports: None };
        let mut too_wide = false;
        self.each_allow(host, verdict, |candidate| match opens(candidate, locality) {
            true => best.consider(candidate),
            false => too_wide = true,
        });
        match best.allowing() {
            Allowing::Rule(rule) => {
                let exemption = match locality {
                    Locality::Local => Exemption::NamedExactly,
                    Locality::Zone | Locality::Public => Exemption::None,
                };
                Ok(Permit::new(authority.clone(), rule, exemption))
            }
            Allowing::OtherPort(rule) => Err(Denial::by_rule(Reason::PortNotAllowed, rule)),
            Allowing::Nothing if too_wide || locality == Locality::Local => {
                Err(Denial::built_in(Reason::NotAllowedLocal))
            }
            Allowing::Nothing => self.not_allowed(authority),
        }
    }

    /// What becomes of a host that no rule speaks about.
    fn not_allowed(&self, authority: &Authority) -> Result<Permit, Denial> {
        match self.egress.mode {
            Mode::Enforce => Err(Denial::built_in(Reason::NotAllowed)),
            Mode::Observe => Ok(Permit::observed(authority.clone())),
        }
    }

    /// The most specific deny that matches.
    fn denying_rule(&self, host: &Host, verdict: Verdict) -> Option<RuleId> {
        let found = match (verdict, host) {
            (Verdict::Deny(rule), _) => return Some(rule),
            (Verdict::Ask(ask), Host::Name(name)) => {
                self.ruleset.table.denying(ask, name.as_bytes())
            }
            (_, Host::Name(_)) => None,
            (_, Host::Ip(address)) => {
                // A literal that embeds an IPv4 address is judged by that one too.
                let judged = IpClass::judged_address(*address, &self.egress.nat64);
                let of = |address: IpAddr| self.denying_address(address, verdict);
                of(*address).or_else(|| of(judged))
            }
        };
        found.map(|candidate| candidate.rule)
    }

    fn denying_address(&self, address: IpAddr, verdict: Verdict) -> Option<Candidate> {
        let glob = match verdict {
            Verdict::Ask(ask) => self.ruleset.table.denying(ask, address.to_string().as_bytes()),
            Verdict::Allow(_) | Verdict::Deny(_) | Verdict::Nothing => None,
        };
        self.deny.matching(address).into_iter().chain(glob).min()
    }

    /// Hands out the allows that match, in no order.
    fn each_allow(&self, host: &Host, verdict: Verdict, mut take: impl FnMut(Candidate)) {
        let mut asked = |ask: AskId, text: &[u8]| {
            self.ruleset.table.each_allowing(ask, text, &mut take);
        };
        match (verdict, host) {
            (Verdict::Ask(ask), Host::Name(name)) => asked(ask, name.as_bytes()),
            (Verdict::Ask(ask), Host::Ip(address)) => asked(ask, address.to_string().as_bytes()),
            (Verdict::Allow(rule), _) => {
                Candidate::portless(&self.ruleset.rules, rule).into_iter().for_each(&mut take);
            }
            (Verdict::Deny(_) | Verdict::Nothing, _) => {}
        }
        if let Host::Ip(address) = host {
            self.allow.matching(*address).into_iter().for_each(take);
        }
    }

    /// How local a host is under this policy, by its name or literal alone.
    fn locality(&self, host: &Host) -> Locality {
        let binding = self.ruleset.allow_local_binding == Some(true);
        match host {
            Host::Name(_) if binding => Locality::Public,
            Host::Name(name) if name.is_localhost() => Locality::Local,
            Host::Name(name) if name.is_in_local_zone() => Locality::Zone,
            Host::Name(_) => Locality::Public,
            Host::Ip(address) => match IpClass::of(*address, &self.egress.nat64) {
                IpClass::Global => Locality::Public,
                IpClass::Special(_) if binding => Locality::Public,
                IpClass::Special(_) if self.is_private_range(*address) => Locality::Zone,
                IpClass::Metadata(_) | IpClass::Special(_) => Locality::Local,
            },
        }
    }

    /// Whether an address is public, or something lets this permit reach it all the same.
    fn may_reach(&self, permit: &Permit, address: IpAddr) -> bool {
        let exempt = match (permit.exemption(), &permit.authority().host) {
            (Exemption::NamedExactly, Host::Ip(literal)) => *literal == address,
            (Exemption::NamedExactly, Host::Name(_)) => address.is_loopback(),
            (Exemption::None, _) => false,
        };
        exempt
            || match IpClass::of(address, &self.egress.nat64) {
                IpClass::Global => true,
                IpClass::Metadata(_) => false,
                IpClass::Special(_) => match self.ruleset.allow_local_binding {
                    Some(true) => true,
                    Some(false) => false,
                    None => self.is_private_exception(&permit.authority().host, address),
                },
            }
    }

    fn is_private_exception(&self, host: &Host, address: IpAddr) -> bool {
        let named = matches!(host, Host::Name(_))
            && self.egress.private_names.iter().any(|pattern| pattern.matches(host));
        named || self.is_private_range(address)
    }

    /// Whether the operator lists the address, and the policy lets the operator.
    fn is_private_range(&self, address: IpAddr) -> bool {
        self.ruleset.allow_local_binding.is_none()
            && self.egress.private_ranges.iter().any(|range| range.contains(&address))
    }
}

/// Whether an allow rule is narrow enough for a host that is that local.
fn opens(candidate: Candidate, locality: Locality) -> bool {
    match locality {
        Locality::Public => true,
        Locality::Zone => !candidate.rank.is_any(),
        Locality::Local => candidate.rank.is_exact(),
    }
}

impl Best {
    fn consider(&mut self, candidate: Candidate) {
        let kept = match candidate.port.is_none_or(|only| only == self.port) {
            true => &mut self.fitting,
            false => &mut self.on_other_ports,
        };
        *kept = Some(kept.map_or(candidate, |best| best.min(candidate)));
    }

    fn allowing(self) -> Allowing {
        match (self.fitting, self.on_other_ports) {
            (Some(candidate), _) => Allowing::Rule(candidate.rule),
            (None, Some(candidate)) => Allowing::OtherPort(candidate.rule),
            (None, None) => Allowing::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::{Outcome, Review, Source};

    fn policy(text: &str, egress: Egress) -> Policy {
        let source = Arc::new(Source::file("/etc/requirements.toml"));
        let text = format!("[experimental_network]\n{text}");
        let review = Review::of(text.as_bytes(), &source, 7);
        let Outcome::Ruleset(ruleset) = review.outcome else { panic!("{:?}", review.problems) };
        Policy::new(*ruleset, egress, 1)
    }

    fn verdict(policy: &Policy, target: &str) -> &'static str {
        let authority = Authority::parse_connect(target.as_bytes()).unwrap();
        policy.decide(&authority).map_or_else(|denial| denial.reason.as_str(), |_| "allow")
    }

    fn vet(policy: &Policy, target: &str, address: &str) -> &'static str {
        let authority = Authority::parse_connect(target.as_bytes()).unwrap();
        let permit = policy.decide(&authority).unwrap();
        let vetted = policy.vet(&permit, address.parse().unwrap());
        vetted.map_or_else(|denial| denial.reason.as_str(), |_| "allow")
    }

    #[test]
    fn order_of_a_decision() {
        let policy = policy(
            r#"
            allowed_domains = ["*.example.com", "10.0.0.1", "localhost:3000", "*", "a.test:8443"]
            denied_domains = ["*.exfil.example.com", "8.8.4.4", "127.0.0.2"]
            "#,
            Egress::default(),
        );
        for (target, expected) in [
            ("a.example.com:443", "allow"),
            ("x.exfil.example.com:443", "denied"),
            ("8.8.4.4:443", "denied"),
            ("[64:ff9b::808:404]:443", "denied"),
            ("8.8.8.8:443", "allow"),
            ("127.0.0.2:80", "denied"),
            ("127.0.0.1:80", "not_allowed_local"),
            ("10.0.0.1:80", "allow"),
            ("10.0.0.2:80", "not_allowed_local"),
            ("169.254.169.254:80", "not_allowed_local"),
            ("localhost:3000", "allow"),
            ("localhost:3001", "port_not_allowed"),
            ("a.localhost:80", "not_allowed_local"),
            ("a.test:443", "allow"),
            ("router.local:80", "not_allowed_local"),
            ("intranet:80", "not_allowed_local"),
        ] {
            assert_eq!(verdict(&policy, target), expected, "{target}");
        }
    }

    #[test]
    fn ports_and_the_switch() {
        let ports = policy("allowed_domains = [\"a.test:8443\"]", Egress::default());
        assert_eq!(verdict(&ports, "a.test:8443"), "allow");
        assert_eq!(verdict(&ports, "a.test:443"), "port_not_allowed");
        assert_eq!(verdict(&ports, "b.test:443"), "not_allowed");
        let off = policy("enabled = false\nallowed_domains = [\"a.test\"]", Egress::default());
        assert_eq!(verdict(&off, "a.test:443"), "proxy_disabled");
    }

    #[test]
    fn addresses_after_dns() {
        let policy = policy(
            "allowed_domains = [\"a.test\", \"10.0.0.1\", \"localhost\"]\n\
             denied_domains = [\"9.9.*\", \"1.1.1.1\"]",
            Egress::default(),
        );
        for (target, address, expected) in [
            ("a.test:443", "8.8.8.8", "allow"),
            ("a.test:443", "10.0.0.1", "not_allowed_local"),
            ("a.test:443", "::ffff:10.0.0.1", "not_allowed_local"),
            ("a.test:443", "1.1.1.1", "denied"),
            ("a.test:443", "::ffff:1.1.1.1", "denied"),
            ("a.test:443", "64:ff9b::101:101", "denied"),
            ("a.test:443", "9.9.9.9", "denied"),
            ("10.0.0.1:80", "10.0.0.1", "allow"),
            ("10.0.0.1:80", "10.0.0.2", "not_allowed_local"),
            ("localhost:80", "127.0.0.1", "allow"),
            ("localhost:80", "10.0.0.1", "not_allowed_local"),
        ] {
            assert_eq!(vet(&policy, target, address), expected, "{target} {address}");
        }
    }

    #[test]
    fn local_binding_and_exceptions() {
        let operator = || Egress {
            private_names: vec![crate::policy::Pattern::parse("*.corp.test").unwrap()],
            private_ranges: vec!["10.20.0.0/16".parse().unwrap()],
            listeners: vec!["127.0.0.1:3128".parse().unwrap()],
            ..Egress::default()
        };
        let allow = "allowed_domains = [\"**.corp.test\", \"169.254.169.254\"]";
        let unset = policy(allow, operator());
        assert_eq!(vet(&unset, "a.corp.test:80", "192.168.0.1"), "allow");
        assert_eq!(vet(&unset, "corp.test:80", "192.168.0.1"), "not_allowed_local");
        assert_eq!(vet(&unset, "corp.test:80", "10.20.3.4"), "allow");
        assert_eq!(vet(&unset, "a.corp.test:80", "169.254.169.254"), "not_allowed_local");
        assert_eq!(vet(&unset, "a.corp.test:3128", "127.0.0.1"), "not_allowed_local");
        assert_eq!(vet(&unset, "169.254.169.254:80", "169.254.169.254"), "allow");
        // A literal in a listed range is opened by a glob, but not by `*`.
        let glob = policy("allowed_domains = [\"10.20.*\"]", operator());
        assert_eq!(vet(&glob, "10.20.3.4:80", "10.20.3.4"), "allow");
        let any = policy("allowed_domains = [\"*\"]", operator());
        assert_eq!(verdict(&any, "10.20.3.4:80"), "not_allowed_local");

        let ceiling = policy(&format!("allow_local_binding = false\n{allow}"), operator());
        assert_eq!(vet(&ceiling, "a.corp.test:80", "192.168.0.1"), "not_allowed_local");
        assert_eq!(vet(&ceiling, "corp.test:80", "10.20.3.4"), "not_allowed_local");

        let on = policy(&format!("allow_local_binding = true\n{allow}"), operator());
        assert_eq!(vet(&on, "corp.test:80", "192.168.0.1"), "allow");
        assert_eq!(vet(&on, "corp.test:80", "169.254.169.254"), "not_allowed_local");
        assert_eq!(vet(&on, "corp.test:3128", "127.0.0.1"), "not_allowed_local");
    }

    #[test]
    fn what_is_entrusted_to_another_proxy() {
        let policy = policy(
            "allowed_domains = [\"*\", \"localhost\", \"10.0.0.1\"]\ndenied_domains = [\"8.8.*\"]",
            Egress::default(),
        );
        let entrust = |target: &str| {
            let authority = Authority::parse_connect(target.as_bytes()).unwrap();
            let permit = policy.decide(&authority).unwrap();
            policy.entrust(&permit).map(|entrusted| entrusted.authority().to_string())
        };
        assert_eq!(entrust("a.test:443").unwrap(), "a.test:443");
        assert_eq!(entrust("1.1.1.1:443").unwrap(), "1.1.1.1:443");
        assert_eq!(entrust("10.0.0.1:443").unwrap(), "10.0.0.1:443");
        assert_eq!(entrust("localhost:443").unwrap_err().reason, Reason::NotAllowedLocal);
    }

    #[test]
    fn observing_lets_through_what_no_rule_speaks_about_and_nothing_else() {
        let text = "allowed_domains = [\"a.test:8443\", \"*.local\"]\n\
                    denied_domains = [\"*.b.test\", \"8.8.*\"]";
        let policies = [Mode::Enforce, Mode::Observe]
            .map(|mode| policy(text, Egress { mode, ..Egress::default() }));
        for (target, enforced, observed) in [
            ("c.test:443", "not_allowed", "allow"),
            ("9.9.9.9:443", "not_allowed", "allow"),
            ("intranet:443", "not_allowed", "allow"),
            ("a.test:443", "port_not_allowed", "port_not_allowed"),
            ("a.test:8443", "allow", "allow"),
            ("x.b.test:443", "denied", "denied"),
            ("8.8.8.8:443", "denied", "denied"),
            ("localhost:443", "not_allowed_local", "not_allowed_local"),
            ("10.0.0.1:443", "not_allowed_local", "not_allowed_local"),
            ("169.254.169.254:80", "not_allowed_local", "not_allowed_local"),
        ] {
            assert_eq!(
                policies.each_ref().map(|policy| verdict(policy, target)),
                [enforced, observed],
                "{target}"
            );
        }
        let [_, observing] = &policies;
        for (address, expected) in [
            ("1.1.1.1", "allow"),
            ("8.8.4.4", "denied"),
            ("10.0.0.1", "not_allowed_local"),
            ("127.0.0.1", "not_allowed_local"),
            ("169.254.169.254", "not_allowed_local"),
        ] {
            assert_eq!(vet(observing, "c.test:443", address), expected, "{address}");
        }
        let off = policy("enabled = false", Egress { mode: Mode::Observe, ..Egress::default() });
        assert_eq!(verdict(&off, "c.test:443"), "proxy_disabled");
    }

    #[test]
    fn the_deciding_rule_is_the_most_specific() {
        let policy = policy(
            "allowed_domains = [\"*\", \"**.example.com\", \"*.api.example.com\", \"e*\"]",
            Egress::default(),
        );
        for (target, pattern) in [
            ("x.api.example.com:443", "*.api.example.com"),
            ("api.example.com:443", "**.example.com"),
            ("evil.test:443", "e*"),
            ("other.test:443", "*"),
        ] {
            let authority = Authority::parse_connect(target.as_bytes()).unwrap();
            let permit = policy.decide(&authority).unwrap();
            assert_eq!(policy.rule(permit.rule().unwrap()).unwrap().pattern.to_string(), pattern);
        }
    }
}
