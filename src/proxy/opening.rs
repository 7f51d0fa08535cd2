//! What a client says in a tunnel: whom it speaks to, judged from the first bytes on.
//!
//! A function of bytes, settings and policy; moving the bytes is the work of `first_bytes`. Judged
//! are the first ClientHello, a second one that `HelloRetryRequest` may have asked for, or the head
//! of every HTTP/1 request. Bodies are followed to their end; there, as at the start, either the
//! next request begins, or TLS, or what is neither, and then nothing is looked at any more: a server
//! that expects a request answers such bytes with 400 and hangs up. So it does not matter whether an
//! `Upgrade` was granted.
//!
//! Not looked at is what is encrypted, and a protocol that turns to TLS by a command of its own
//! (STARTTLS). Nor is a whole ClientHello read as HTTP too, though a server that takes any bytes for
//! a method might.

use std::sync::{Arc, OnceLock};

use super::{
    binding::Binding,
    mismatch::Mismatch,
    plain_head::{Plain, PlainError, PlainHead},
};
use crate::{
    http1::{
        Framed, HeadLimits, Scanned,
        request_head::{Framing, HeadError, Switch},
    },
    net::{Authority, DnsName},
    observe::Inside,
    policy::Policy,
    settings::Tls,
    tls::{Beginning, Following, HelloError, HelloReader, Next, WholeHello, beginning_of},
};

/// What is said in one tunnel, and what is asked of it.
#[derive(Debug)]
pub(super) struct Opening {
    binding: Binding,
    limits: HeadLimits,
    stage: Stage,
}

/// What may happen to the bytes that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// None may go on before there are more.
    Hold,
    /// They may all go on, and so may whatever follows.
    Pass,
    /// That many may go on; the rest must be looked at again.
    Release(usize),
}

#[derive(Debug)]
enum Stage {
    /// Too few bytes to tell one protocol from another.
    Start,
    /// In the first hello.
    Hello(HelloReader),
    /// After it, with the name it had.
    Following(Following, Option<DnsName>),
    /// In the second hello; the name of the first.
    Again(HelloReader, Option<DnsName>),
    /// In what may be an HTTP head.
    Plain(PlainHead),
    /// In the body of a request.
    Body(Framed),
    /// Behind a request.
    Next,
}

impl Opening {
    pub(super) fn new(tunnel: Authority, rules: Arc<Tls>, limits: HeadLimits) -> Self {
        Self { binding: Binding::new(tunnel, rules), limits, stage: Stage::Start }
    }

    /// Another host that the client speaks to in this tunnel because the policy allows it, once
    /// that is known. Must be asked for again when the policy changes.
    pub(super) fn named(&self) -> Arc<OnceLock<Authority>> {
        self.binding.named()
    }

    /// What there was to see.
    pub(super) fn seen(&self) -> &Inside {
        self.binding.seen()
    }

    /// Looks at bytes that begin where the last release ended. `ended`: no more will come, and
    /// then the answer is never to hold.
    ///
    /// # Errors
    ///
    /// The tunnel must be closed, and none of these bytes go on.
    pub(super) fn look(
        &mut self,
        bytes: &[u8],
        ended: bool,
        policy: &Policy,
    ) -> Result<Step, Mismatch> {
        let step = self.step(bytes, ended, policy);
        self.binding.note(step.as_ref().err());
        step
    }

    /// Notes that the client did not go on.
    pub(super) fn give_up(&mut self) -> Mismatch {
        self.binding.note(Some(&Mismatch::Slow));
        Mismatch::Slow
    }

    fn step(&mut self, bytes: &[u8], ended: bool, policy: &Policy) -> Result<Step, Mismatch> {
        if let Stage::Start | Stage::Body(_) | Stage::Next = self.stage
            && bytes.is_empty()
        {
            return Ok(if ended { Step::Pass } else { Step::Hold });
        }
        if let Stage::Next = self.stage {
            self.stage = match beginning_of(bytes) {
                Beginning::Tls => Stage::Hello(HelloReader::default()),
                Beginning::Undecided if !ended && bytes.first().is_some_and(u8::is_ascii) => {
                    return Ok(Step::Hold);
                }
                // WebSocket frames look like the hellos of SSL 2.0.
                Beginning::Other | Beginning::Undecided | Beginning::Sslv2Hello => {
                    Stage::Plain(PlainHead::default())
                }
            };
        }
        if let Stage::Start = self.stage {
            if self.binding.asks_nothing() {
                return Ok(Step::Pass);
            }
            match beginning_of(bytes) {
                Beginning::Tls => self.stage = Stage::Hello(HelloReader::default()),
                Beginning::Undecided if !ended => return Ok(Step::Hold),
                _ if self.binding.is_for_tls_alone() => return Err(Mismatch::NotTls),
                Beginning::Sslv2Hello => {
                    self.binding.judge_name(None, policy)?;
                    if self.binding.is_off() {
                        return Ok(Step::Pass);
                    }
                    self.stage = Stage::Plain(PlainHead::default());
                }
                Beginning::Other | Beginning::Undecided if self.binding.is_off() => {
                    return Ok(Step::Pass);
                }
                Beginning::Other | Beginning::Undecided => {
                    self.stage = Stage::Plain(PlainHead::default());
                }
            }
        }
        match &mut self.stage {
            Stage::Start | Stage::Next => Ok(Step::Hold),
            Stage::Hello(reader) => match reader.read(bytes)? {
                Some(WholeHello { hello, end }) => {
                    self.binding.judge_hello(&hello)?;
                    self.binding.judge_name(hello.server_name.clone(), policy)?;
                    if self.binding.is_off() || !hello.may_repeat {
                        return Ok(Step::Pass);
                    }
                    let following = Following::new(hello.early_data);
                    self.stage = Stage::Following(following, hello.server_name);
                    Ok(Step::Release(end))
                }
                None if ended => Err(HelloError::Length.into()),
                None => Ok(Step::Hold),
            },
            Stage::Following(following, name) => match following.look(bytes) {
                Next::Nothing => Ok(Step::Pass),
                Next::More if ended => Ok(Step::Pass),
                Next::More => Ok(Step::Hold),
                Next::Skip(length) => Ok(Step::Release(length)),
                Next::Hello => {
                    self.stage = Stage::Again(HelloReader::default(), name.take());
                    self.step(bytes, ended, policy)
                }
            },
            Stage::Again(reader, name) => match reader.read(bytes)? {
                Some(WholeHello { hello, .. }) if hello.server_name == *name => {
                    self.binding.judge_hello(&hello)?;
                    Ok(Step::Pass)
                }
                Some(WholeHello { hello, .. }) => {
                    Err(self.binding.note_second_name(hello.server_name))
                }
                None if ended => Err(HelloError::Length.into()),
                None => Ok(Step::Hold),
            },
            Stage::Plain(head) => match head.look(bytes, ended, self.limits)? {
                Plain::Head(head) => {
                    self.binding.judge_head(head.named)?;
                    if head.framing == Framing::Switching(Switch::Tunnel) {
                        return Err(PlainError::Nested.into());
                    }
                    let body = head.framing.body();
                    self.stage = if body.is_empty() { Stage::Next } else { Stage::Body(body) };
                    Ok(Step::Release(head.end))
                }
                Plain::Hold => Ok(Step::Hold),
                Plain::Other => Ok(Step::Pass),
                Plain::Release(length) => Ok(Step::Release(length)),
            },
            Stage::Body(body) => match body.follow(bytes) {
                Ok(Scanned::More(length)) => Ok(Step::Release(length)),
                Ok(Scanned::End(length)) => {
                    self.stage = Stage::Next;
                    Ok(Step::Release(length))
                }
                Err(error) => Err(PlainError::from(HeadError::from(error)).into()),
            },
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        policy::{Egress, Outcome, Pattern, Review, Source},
        settings::{Ech, Sni},
    };

    const LIMITS: HeadLimits = HeadLimits { bytes: 4096, line: 2048, fields: 16 };

    fn policy() -> Policy {
        let text = b"[experimental_network]\nenabled = true\nallowed_domains = [\"ok.test\", \"a.test\"]\n";
        let review = Review::of(text, &Arc::new(Source::file("test.toml")), 7);
        match review.outcome {
            Outcome::Ruleset(ruleset) => Policy::new(*ruleset, Egress::default(), 1),
            Outcome::Broken | Outcome::NoTable => panic!("{:?}", review.problems),
        }
    }

    pub(in crate::proxy) fn rules() -> Tls {
        let cleartext = vec![Pattern::parse("ssh.test").unwrap()];
        Tls { sni: Sni::Enforce, require: true, cleartext, ech: Ech::Record }
    }

    pub(in crate::proxy) fn opening(authority: &str, rules: &Tls) -> Opening {
        let authority = Authority::parse_connect(authority.as_bytes()).unwrap();
        Opening::new(authority, Arc::new(rules.clone()), LIMITS)
    }

    /// Feeds pieces and then the end. What has gone on, and what stopped it.
    pub(in crate::proxy) fn feed(
        opening: &mut Opening,
        bytes: &[u8],
        step: usize,
    ) -> (Vec<u8>, Option<Mismatch>) {
        let policy = policy();
        let (mut gone, mut to) = (0, 0);
        loop {
            let ended = to == bytes.len() && gone == to;
            match opening.look(&bytes[gone..to], ended, &policy) {
                Ok(Step::Release(length)) => {
                    assert!(length > 0 && gone + length <= to);
                    gone += length;
                }
                Ok(Step::Pass) => return (bytes.to_vec(), None),
                Ok(Step::Hold) if to < bytes.len() => to = bytes.len().min(to + step),
                Ok(Step::Hold) if ended => panic!("holds at the end"),
                Ok(Step::Hold) => match opening.look(&bytes[gone..], true, &policy) {
                    Ok(Step::Release(length)) => gone += length,
                    Ok(Step::Pass) => return (bytes.to_vec(), None),
                    Ok(Step::Hold) => panic!("holds at the end"),
                    Err(mismatch) => return (bytes[..gone].to_vec(), Some(mismatch)),
                },
                Err(mismatch) => return (bytes[..gone].to_vec(), Some(mismatch)),
            }
        }
    }

    /// A hello in one record, or in two.
    pub(in crate::proxy) fn hello(
        name: Option<&str>,
        extensions: &[u8],
        records: usize,
    ) -> Vec<u8> {
        // TLS 1.3 is offered.
        let mut all = [&[0, 43, 0, 3, 2, 3, 4], extensions].concat();
        if let Some(name) = name {
            let length = u8::try_from(name.len()).unwrap();
            all.extend([0, 0, 0, length + 5, 0, length + 3, 0, 0, length]);
            all.extend(name.as_bytes());
        }
        let mut body = vec![3; 34];
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend(u16::try_from(all.len()).unwrap().to_be_bytes());
        body.extend(all);
        let [high, low] = u16::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[1, 0, high, low], &body[..]].concat();
        let record = |payload: &[u8]| {
            let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
            [&[22, 3, 1, high, low], payload].concat()
        };
        message.chunks(message.len().div_ceil(records)).flat_map(record).collect()
    }

    fn verdict(authority: &str, rules: &Tls, bytes: &[u8]) -> Option<Mismatch> {
        let mut opening = opening(authority, rules);
        let (gone, mismatch) = feed(&mut opening, bytes, usize::MAX);
        assert!(mismatch.is_none() || gone.is_empty());
        assert_eq!(opening.seen().mismatch, mismatch.as_ref().map(Mismatch::word));
        mismatch
    }

    #[test]
    fn port_443_is_for_tls() {
        let ok = hello(Some("ok.test"), b"", 1);
        let http = b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n";
        let ssh = b"SSH-2.0-x\r\n";
        let (strict, mut lax) = (rules(), rules());
        lax.require = false;
        for (authority, rules, bytes, expected) in [
            ("ok.test:443", &strict, &ok[..], None),
            ("ok.test:443", &strict, http, Some(Mismatch::NotTls)),
            ("ok.test:443", &strict, ssh, Some(Mismatch::NotTls)),
            ("ok.test:443", &strict, b"", None),
            ("ok.test:443", &strict, b"\x16", Some(Mismatch::NotTls)),
            ("ok.test:443", &strict, b"\x80\x2e\x01\x03\x01", Some(Mismatch::NotTls)),
            ("10.0.0.1:443", &strict, ssh, Some(Mismatch::NotTls)),
            ("ok.test:444", &strict, ssh, None),
            ("ok.test:444", &strict, http, None),
            ("ok.test:443", &lax, ssh, None),
            ("ok.test:443", &lax, http, None),
            ("ssh.test:443", &strict, ssh, None),
            ("ssh.test:443", &strict, http, Some(Mismatch::HttpHost)),
            ("ssh.test:443", &strict, &ok, Some(Mismatch::OtherName)),
        ] {
            let said = verdict(authority, rules, bytes);
            assert_eq!(said, expected, "{authority} {}", bytes.escape_ascii());
        }
    }

    #[test]
    fn names() {
        let with = |sni| Tls { sni, ..rules() };
        for (sni, authority, name, expected) in [
            (Sni::Enforce, "ok.test:443", Some("OK.test"), None),
            (Sni::Enforce, "ok.test:443", Some("a.test"), Some(Mismatch::OtherName)),
            (Sni::Enforce, "ok.test:443", None, Some(Mismatch::NoName)),
            (Sni::Enforce, "192.0.2.1:443", None, None),
            (Sni::Enforce, "192.0.2.1:443", Some("a.test"), None),
            (Sni::Enforce, "192.0.2.1:443", Some("evil.test"), Some(Mismatch::OtherName)),
            (Sni::Allowed, "ok.test:443", Some("a.test"), None),
            (Sni::Allowed, "ok.test:443", Some("evil.test"), Some(Mismatch::OtherName)),
            (Sni::Allowed, "ok.test:443", None, None),
            (Sni::Allowed, "192.0.2.1:443", Some("evil.test"), Some(Mismatch::OtherName)),
            (Sni::Off, "ok.test:443", Some("evil.test"), None),
            (Sni::Off, "ok.test:443", None, None),
        ] {
            let said = verdict(authority, &with(sni), &hello(name, b"", 1));
            assert_eq!(said, expected, "{sni:?} {authority} {name:?}");
        }
    }

    #[test]
    fn no_record_hides_a_first_hello() {
        let off = Tls { sni: Sni::Off, require: false, ech: Ech::Refuse, ..rules() };
        let loose = Tls { require: false, ..rules() };
        for before in [
            &[21, 3, 1, 0, 2, 1, 90][..],
            &[21, 3, 1, 0, 2, 2, 90],
            &[21, 5, 0, 0, 2, 1, 0],
            &[20, 3, 3, 0, 1, 1],
            &[23, 3, 3, 0, 0],
        ] {
            let bytes = [before, &hello(Some("evil.test"), b"", 1)].concat();
            for (authority, rules) in [
                ("ok.test:443", &rules()),
                ("ok.test:443", &loose),
                ("ok.test:8443", &rules()),
                ("ssh.test:443", &rules()),
                ("ok.test:443", &off),
            ] {
                for step in [1, 3, usize::MAX] {
                    let (gone, mismatch) = feed(&mut opening(authority, rules), &bytes, step);
                    assert_eq!(mismatch, Some(Mismatch::Hello(HelloError::Record)), "{bytes:?}");
                    assert_eq!(gone, b"", "{authority} {bytes:?}");
                }
            }
        }
    }

    #[test]
    fn no_hello_of_ssl_2_hides_a_head() {
        let head = b"\x80x\x01\x03 / HTTP/1.1\r\nHost: evil.test\r\n\r\n";
        let allowed = Tls { sni: Sni::Allowed, ..rules() };
        for (authority, rules) in [("10.0.0.1:80", &rules()), ("ok.test:80", &allowed)] {
            let (gone, mismatch) = feed(&mut opening(authority, rules), head, usize::MAX);
            assert_eq!(mismatch, Some(Mismatch::HttpHead(PlainError::Leading)));
            assert!(!gone.contains(&b'/'));
        }
    }

    #[test]
    fn early_data_does_not_hide_a_second_hello() {
        let first = hello(Some("ok.test"), &[0, 42, 0, 0], 1);
        let early = [&[23, 3, 3, 0x30, 0][..], &[7; 0x3000]].concat();
        let second = hello(Some("a.test"), b"", 2);
        for step in [1, 100, usize::MAX] {
            let mut opening = opening("ok.test:443", &rules());
            let (gone, mismatch) =
                feed(&mut opening, &[&first[..], &early, &second].concat(), step);
            assert_eq!(mismatch, Some(Mismatch::SecondName), "{step}");
            assert_eq!(gone.len(), first.len() + early.len(), "{step}");
        }
    }
}
