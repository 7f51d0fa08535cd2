//! Which hosts the client of a tunnel may speak to: the one that was asked for, or what the settings
//! allow beside it.

use std::sync::{Arc, OnceLock};

use super::{mismatch::Mismatch, plain_head::Named};
use crate::{
    net::{Authority, DnsName, Host, Port},
    observe::Inside,
    policy::Policy,
    settings::{Ech, Sni, Tls},
    tls::ClientHello,
};

/// What binds the client of one tunnel, and what it was seen to say.
#[derive(Debug)]
pub(super) struct Binding {
    tunnel: Authority,
    rules: Arc<Tls>,
    /// The name that was let through because the policy allows it.
    named: Arc<OnceLock<Authority>>,
    seen: Inside,
}

impl Binding {
    pub(super) fn new(tunnel: Authority, rules: Arc<Tls>) -> Self {
        Self { tunnel, rules, named: Arc::default(), seen: Inside::default() }
    }

    /// Another host that the client speaks to because the policy allows it, once that is known.
    pub(super) fn named(&self) -> Arc<OnceLock<Authority>> {
        Arc::clone(&self.named)
    }

    /// What there was to see.
    pub(super) fn seen(&self) -> &Inside {
        &self.seen
    }

    /// Notes why the tunnel is closed, if it is.
    pub(super) fn note(&mut self, mismatch: Option<&Mismatch>) {
        self.seen.mismatch = mismatch.map(Mismatch::word);
    }

    /// Whether names do not matter.
    pub(super) fn is_off(&self) -> bool {
        self.rules.sni == Sni::Off
    }

    /// Whether nothing at all is asked of the client.
    pub(super) fn asks_nothing(&self) -> bool {
        self.is_off() && self.rules.ech == Ech::Record && !self.is_for_tls_alone()
    }

    /// Whether anything but TLS closes the tunnel.
    pub(super) fn is_for_tls_alone(&self) -> bool {
        let Authority { host, port } = &self.tunnel;
        *port == Port::HTTPS
            && self.rules.require
            && !self.rules.cleartext.iter().any(|pattern| pattern.matches(host))
    }

    /// Judges what a hello hides.
    ///
    /// # Errors
    ///
    /// It must not.
    pub(super) fn judge_hello(&mut self, hello: &ClientHello) -> Result<(), Mismatch> {
        self.seen.ech |= hello.ech;
        match self.rules.ech {
            Ech::Refuse if hello.ech => Err(Mismatch::Ech),
            Ech::Refuse | Ech::Record => Ok(()),
        }
    }

    /// Judges the name in a first hello.
    ///
    /// # Errors
    ///
    /// It is that of a host which the client may not speak to, or missing.
    pub(super) fn judge_name(
        &mut self,
        name: Option<DnsName>,
        policy: &Policy,
    ) -> Result<(), Mismatch> {
        let Authority { host, port } = &self.tunnel;
        let name = match (name, host) {
            (Some(name), Host::Name(host)) if name == *host => return Ok(()),
            (Some(name), Host::Name(_) | Host::Ip(_)) => name,
            (None, Host::Ip(_)) => return Ok(()),
            (None, Host::Name(_)) => {
                return match self.rules.sni {
                    Sni::Enforce => Err(Mismatch::NoName),
                    Sni::Allowed | Sni::Off => Ok(()),
                };
            }
        };
        self.seen.server_name = Some(name.clone());
        match (self.rules.sni, host) {
            (Sni::Off, _) => Ok(()),
            (Sni::Enforce, Host::Name(_)) => Err(Mismatch::OtherName),
            (Sni::Enforce, Host::Ip(_)) | (Sni::Allowed, _) => {
                let named = Authority { host: Host::Name(name), port: *port };
                // Known before it is judged: a policy that comes in between judges it too.
                let named = self.named.get_or_init(|| named);
                policy.decide(named).map(|_| ()).map_err(|_| Mismatch::OtherName)
            }
        }
    }

    /// Notes the name in a second hello, which is not that of the first.
    pub(super) fn note_second_name(&mut self, name: Option<DnsName>) -> Mismatch {
        self.seen.server_name = name;
        Mismatch::SecondName
    }

    /// Judges the hosts in an HTTP head.
    ///
    /// # Errors
    ///
    /// One of them is not that of the tunnel, or `Host` is missing.
    pub(super) fn judge_head(&mut self, named: Named) -> Result<(), Mismatch> {
        let Named { target, field } = named;
        let is_other = |host: &Host| *host != self.tunnel.host;
        let missing = field.is_none();
        self.seen.http_host = [target, field].into_iter().flatten().find(is_other);
        match missing || self.seen.http_host.is_some() {
            true => Err(Mismatch::HttpHost),
            false => Ok(()),
        }
    }
}
