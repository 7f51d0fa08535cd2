//! How a client begins a tunnel: whom it speaks to, judged from the first bytes on.
//!
//! A function of bytes, settings and policy; moving the bytes is the work of `first_bytes`. Judged
//! are the first ClientHello, a second one that `HelloRetryRequest` may have asked for, or the head
//! of a first HTTP request. What comes later in a tunnel is not looked at: a TLS session that is
//! encrypted, the second request on a connection, a protocol that turns to TLS by a command
//! (STARTTLS).

use std::sync::{Arc, OnceLock};

use super::{
    binding::Binding,
    mismatch::Mismatch,
    plain_head::{Plain, PlainHead},
};
use crate::{
    http1::HeadLimits,
    net::{Authority, DnsName},
    observe::Inside,
    policy::Policy,
    settings::Tls,
    tls::{Beginning, Following, HelloError, HelloReader, Next, WholeHello, beginning_of},
};

/// The beginning of one tunnel, and what is asked of it.
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
        if let Stage::Start = self.stage {
            if bytes.is_empty() {
                return Ok(if ended { Step::Pass } else { Step::Hold });
            }
            if self.binding.asks_nothing() {
                return Ok(Step::Pass);
            }
            match beginning_of(bytes) {
                Beginning::Tls => self.stage = Stage::Hello(HelloReader::default()),
                Beginning::Undecided if !ended => return Ok(Step::Hold),
                _ if self.binding.is_for_tls_alone() => return Err(Mismatch::NotTls),
                Beginning::Sslv2Hello => {
                    return self.binding.judge_name(None, policy).map(|()| Step::Pass);
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
            Stage::Start => Ok(Step::Hold),
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
                Plain::Head(named) => self.binding.judge_head(named).map(|()| Step::Pass),
                Plain::Hold => Ok(Step::Hold),
                Plain::Other => Ok(Step::Pass),
                Plain::Release(length) => Ok(Step::Release(length)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        policy::{Egress, Outcome, Pattern, Review, Source},
        proxy::{plain_head::PlainError, properties::config},
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

    fn rules() -> Tls {
        let cleartext = vec![Pattern::parse("ssh.test").unwrap()];
        Tls { sni: Sni::Enforce, require: true, cleartext, ech: Ech::Record }
    }

    fn opening(authority: &str, rules: &Tls) -> Opening {
        let authority = Authority::parse_connect(authority.as_bytes()).unwrap();
        Opening::new(authority, Arc::new(rules.clone()), LIMITS)
    }

    /// Feeds pieces and then the end. What has gone on, and what stopped it.
    fn feed(opening: &mut Opening, bytes: &[u8], step: usize) -> (Vec<u8>, Option<Mismatch>) {
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
    fn hello(name: Option<&str>, extensions: &[u8], records: usize) -> Vec<u8> {
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

    /// Pieces of what clients say first, right and wrong.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let pieces = vec![
            hello(Some("ok.test"), b"", 1),
            hello(Some("ok.test"), &[0, 42, 0, 0, 0xfe, 0x0d, 0, 1, 0], 3),
            hello(Some("a.test"), b"", 2),
            hello(Some("evil.test"), b"", 1),
            hello(None, b"", 1),
            vec![20, 3, 3, 0, 1, 1],
            vec![21, 3, 3, 0, 2, 1, 90],
            vec![23, 3, 3, 0, 3, 1, 2, 3],
            vec![22, 3, 3, 0, 3, 16, 2, 3],
            vec![22, 3],
            b"GET ".to_vec(),
            b"fetch ".to_vec(),
            b"/ HTTP/1.1\r\n".to_vec(),
            b"http://evil.test/".to_vec(),
            b"Host: ok.test\r\n".to_vec(),
            b"Host: evil.test\r\n".to_vec(),
            b"\r\n".to_vec(),
            b"\n".to_vec(),
            b"\0".to_vec(),
            b"hello".to_vec(),
        ];
        prop_oneof![
            4 => prop::sample::select(pieces),
            1 => vec(any::<u8>(), 1..20),
        ]
    }

    proptest! {
        #![proptest_config(config(5_000))]

        /// The verdict is about bytes, not about the pieces they come in; and of a hello or of a
        /// head with a registered method that is refused nothing goes on.
        #[test]
        fn pieces_do_not_matter(
            pieces in vec(piece(), 1..6),
            port in prop::sample::select(vec![443_u16, 8443]),
            step in 1_usize..60,
        ) {
            let bytes = pieces.concat();
            let authority = format!("ok.test:{port}");
            let mut at_once = opening(&authority, &rules());
            let (_, whole) = feed(&mut at_once, &bytes, usize::MAX);
            let mut in_pieces = opening(&authority, &rules());
            let (gone, cut) = feed(&mut in_pieces, &bytes, step);
            match (&whole, &cut) {
                (None, None) => {}
                (Some(_), Some(_)) => prop_assert!(gone.len() < bytes.len()),
                // An unfinished line with an unregistered method has gone on; then its head is
                // refused, whatever it names.
                (None, Some(mismatch)) => {
                    prop_assert_eq!(mismatch, &Mismatch::HttpHead(PlainError::Parted));
                    prop_assert!(!bytes.starts_with(b"GET"));
                }
                (Some(_), None) => prop_assert!(false, "{} passes in pieces", bytes.escape_ascii()),
            }
            if cut.is_some() && beginning_of(&gone) != Beginning::Tls {
                prop_assert!(!gone.trim_ascii().contains(&b'\n'));
            }
        }

        /// Whatever comes is judged, and never held at the end.
        #[test]
        fn nonsense_is_judged(bytes in vec(any::<u8>(), 0..300), step in 1_usize..60) {
            feed(&mut opening("ok.test:443", &rules()), &bytes, step);
            let tls = [&[22, 3, 1], &bytes[..]].concat();
            feed(&mut opening("ok.test:8443", &rules()), &tls, step);
        }
    }
}
