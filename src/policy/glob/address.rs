//! Whether some address, as it is usually written, is what a glob describes.
//!
//! All places of the glob at which one may be are followed at once through all texts of addresses:
//! four decimal numbers, or hexadecimal groups as RFC 5952 writes them. That is exact.

use super::{Glob, Prefix};

impl Glob {
    /// Whether it matches any address. IPv4-mapped addresses are IPv4 addresses, here as everywhere.
    pub(in crate::policy) fn matches_an_address(&self) -> bool {
        let row = |prefix: &str| Row::new(format!("{prefix}{}", self.body).into_bytes());
        let rows = match self.prefix {
            Prefix::Body => vec![row("")],
            Prefix::Below => vec![row("?*.")],
            Prefix::BodyAndBelow => vec![row(""), row("?*.")],
        };
        // One has no dots, the other no colons.
        let matches = |row: Row| match row.bytes.contains(&b'.') {
            true => row.matches_ipv4(),
            false => row.matches_ipv6() || row.matches_ipv4(),
        };
        rows.into_iter().flatten().any(matches)
    }
}

/// The bytes of a glob, and what each place steps over.
struct Row {
    /// Its end: behind the last byte.
    end: Places,
    stars: Places,
    any: Places,
    bytes: Vec<u8>,
}

/// Places of a glob, before so many of its bytes: one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places(u128);

/// Longer than any address, in bytes that are not `*`.
const TOO_LONG: usize = 40;

/// So many groups of hexadecimal digits are an IPv6 address.
const GROUPS: usize = 8;

/// What may be reached with that many groups of zero behind each other, none to all of them.
type ByRun = [Places; GROUPS + 1];

impl Row {
    /// None, if it is longer than any address. There are at most as many stars as other bytes, and
    /// one more.
    fn new(bytes: Vec<u8>) -> Option<Self> {
        let kept = bytes.iter().filter(|byte| **byte != b'*').count();
        (kept < TOO_LONG).then(|| {
            let places = |wanted: u8| Places::of(&bytes, |byte| byte == wanted);
            let end = Places(1 << bytes.len());
            Self { end, stars: places(b'*'), any: places(b'?'), bytes }
        })
    }

    fn matches_ipv4(&self) -> bool {
        let first = self.decimal(self.start());
        let last = (1..4).fold(first, |at, _| self.decimal(self.step(at, |byte| byte == b'.')));
        self.is_end(last)
    }

    /// With `::` for two groups or more, or with none.
    fn matches_ipv6(&self) -> bool {
        self.matches_ipv6_without_gap() || (2..=GROUPS).any(|gap| self.matches_ipv6_with_gap(gap))
    }

    fn matches_ipv6_without_gap(&self) -> bool {
        // Two groups of zero behind each other would be a gap.
        let first = self.groups(Self::by_run(self.start()), false, 1);
        let last = (1..GROUPS).fold(first, |at, _| self.groups(at, true, 1));
        last.into_iter().any(|at| self.is_end(at))
    }

    /// The gap is the longest run of zeros, and the first of several.
    fn matches_ipv6_with_gap(&self, gap: usize) -> bool {
        let mut before = Self::by_run(self.start());
        (0..=GROUPS - gap).any(|groups| {
            let [at, ..] = before;
            let is_end = self.matches_ipv6_behind_gap(at, groups, gap);
            before = self.groups(before, groups > 0, gap - 1);
            is_end
        })
    }

    /// What follows on so many groups and a gap that begins there.
    fn matches_ipv6_behind_gap(&self, at: Places, groups: usize, gap: usize) -> bool {
        let colon = |at| self.step(at, |byte| byte == b':');
        let at = colon(colon(at));
        let mut left = GROUPS - groups - gap;
        if left == 0 {
            return self.is_end(at);
        }
        // `::ffff:` and two groups more is an IPv4 address.
        let is_mapped_place = groups == 0 && left == 3;
        let first = self.hexadecimal(at, !is_mapped_place);
        let mut behind = Self::by_run(first);
        left -= 1;
        for _ in 0..left {
            behind = self.groups(behind, true, gap);
        }
        behind.into_iter().any(|at| self.is_end(at))
    }

    /// One group more, of at most so many of zero behind each other.
    fn groups(&self, before: ByRun, colon: bool, longest: usize) -> ByRun {
        let mut behind = Self::by_run(Places::NONE);
        for (run, at) in before.into_iter().enumerate().filter(|(_, at)| *at != Places::NONE) {
            let at = if colon { self.step(at, |byte| byte == b':') } else { at };
            let zero =
                if run < longest { self.step(at, |byte| byte == b'0') } else { Places::NONE };
            let [none, more @ ..] = &mut behind;
            *none = none.or(self.hexadecimal(at, true));
            if let Some(more) = more.get_mut(run) {
                *more = more.or(zero);
            }
        }
        behind
    }

    fn by_run(at: Places) -> ByRun {
        let mut by_run = [Places::NONE; GROUPS + 1];
        let [none, ..] = &mut by_run;
        *none = at;
        by_run
    }

    /// A group that is not zero; perhaps not `ffff`.
    fn hexadecimal(&self, at: Places, may_be_ffff: bool) -> Places {
        let is_other = |byte: u8| byte != b'f' && byte.is_ascii_hexdigit();
        let f = |at| self.step(at, |byte| byte == b'f');
        let (mut all_f, mut mixed) = (f(at), self.step(at, |byte| is_other(byte) && byte != b'0'));
        let mut found = all_f.or(mixed);
        for digits in 2..=4 {
            let digit = self.step(mixed, |byte: u8| byte.is_ascii_hexdigit());
            mixed = digit.or(self.step(all_f, is_other));
            all_f = f(all_f);
            found = found.or(mixed);
            if digits < 4 || may_be_ffff {
                found = found.or(all_f);
            }
        }
        found
    }

    /// A number from 0 to 255, without leading zeros.
    fn decimal(&self, at: Places) -> Places {
        let digit = |at| self.step(at, |byte| byte.is_ascii_digit());
        let one = self.step(at, |byte| byte == b'1');
        let two = self.step(at, |byte| byte == b'2');
        let twenty_five = self.step(two, |byte| byte == b'5');
        let hundreds = [
            digit(digit(one)),
            digit(self.step(two, |byte| matches!(byte, b'0'..=b'4'))),
            self.step(twenty_five, |byte| matches!(byte, b'0'..=b'5')),
        ];
        let tens = digit(self.step(at, |byte| matches!(byte, b'1'..=b'9')));
        hundreds.into_iter().fold(digit(at).or(tens), Places::or)
    }

    fn start(&self) -> Places {
        self.over_stars(Places(1))
    }

    /// One byte of an address more, of those that are meant.
    fn step(&self, at: Places, is_meant: impl Fn(u8) -> bool) -> Places {
        if at == Places::NONE {
            return at;
        }
        let met = Places::of(&self.bytes, is_meant).or(self.any);
        let stays = at.and(self.stars);
        self.over_stars(stays.or(at.and(met).next()))
    }

    /// A star may be nothing. No two stand side by side.
    fn over_stars(&self, at: Places) -> Places {
        at.or(at.and(self.stars).next())
    }

    fn is_end(&self, at: Places) -> bool {
        at.and(self.end) != Places::NONE
    }
}

impl Places {
    const NONE: Self = Self(0);

    fn of(bytes: &[u8], is_meant: impl Fn(u8) -> bool) -> Self {
        let bit = |byte: &u8| u128::from(is_meant(*byte));
        Self(bytes.iter().rev().fold(0, |places, byte| places << 1 | bit(byte)))
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn next(self) -> Self {
        Self(self.0 << 1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::net::Host;

    fn glob(body: &str) -> Glob {
        Glob::new(Prefix::Body, body)
    }

    /// An address that it matches: its wildcards are replaced one after the other by what leaves it
    /// one that matches an address.
    fn witness(body: &str) -> String {
        let mut body = body.to_owned();
        while let Some((at, wild)) = body.match_indices(['*', '?']).next() {
            let (before, rest) = body.split_at(at);
            let behind = rest.strip_prefix(wild).unwrap();
            let bytes = "0123456789abcdef.:".chars();
            let fills: Vec<String> = match wild {
                "*" => [String::new()].into_iter().chain(bytes.map(|b| format!("{b}*"))).collect(),
                _ => bytes.map(String::from).collect(),
            };
            let next = fills.iter().map(|fill| format!("{before}{fill}{behind}"));
            let next: Option<String> =
                next.into_iter().find(|body| glob(body).matches_an_address());
            body = next.unwrap_or_else(|| panic!("`{body}` matches no address"));
        }
        body
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        let group = select(&[0, 0, 0, 1, 0x10, 0xf, 0xffff, 0xfffe, 0x1234][..]);
        let six = vec(group, 8).prop_map(|groups| {
            let groups: [u16; 8] = groups.try_into().unwrap();
            IpAddr::V6(Ipv6Addr::from(groups)).to_canonical()
        });
        prop_oneof![3 => six, 1 => any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into())]
    }

    proptest! {
        /// Whatever of an address is replaced by wildcards, it matches that address.
        #[test]
        fn what_an_address_matches_lives(address in address(), cuts in vec(0..3_u8, 40)) {
            let text = address.to_string();
            let body: String = text.chars().zip(cuts).map(|(byte, cut)| match cut {
                0 => '*',
                1 => '?',
                _ => byte,
            }).collect();
            let mut body = body;
            while body.contains("**") {
                body = body.replace("**", "*");
            }
            prop_assert!(glob(&body).matches(&text));
            prop_assert!(glob(&body).matches_an_address(), "{} from {}", body, text);
        }

        #[test]
        fn what_lives_matches_an_address(
            body in vec(select(&["0", "1", "f", "ffff", ":", "::", ".", "*", "?", "25"][..]), 1..9),
        ) {
            let body = body.concat();
            prop_assume!(!body.contains("**"));
            if glob(&body).matches_an_address() {
                let text = witness(&body);
                let bracketed = if text.contains(':') { format!("[{text}]") } else { text.clone() };
                let host = Host::parse(bracketed.as_bytes());
                prop_assert!(matches!(host, Ok(Host::Ip(_))), "{} from {}", text, body);
                prop_assert!(host.unwrap().to_bare_string() == text, "{} from {}", text, body);
                prop_assert!(glob(&body).matches(&text), "{} from {}", text, body);
            }
        }
    }

    #[test]
    fn addresses_as_they_are_written() {
        for (body, expected) in [
            ("10.*", true),
            ("*", true),
            ("2?5.1.1.1", true),
            ("2?6.1.1.*", true),
            ("30?.1.1.*", false),
            ("256.*", false),
            ("01.*", false),
            ("1.2.3.4.*", false),
            ("::*", true),
            ("2001:db8:?:*", true),
            ("2001:0:0:*", true),
            ("2001:0:0:?:?:?:?:?", false),
            ("::ffff:*", true),
            ("::ffff:?:?", false),
            ("::fffe:?:?", true),
            ("????????????????????????????????????????", false),
        ] {
            assert_eq!(glob(body).matches_an_address(), expected, "{body}");
        }
        assert!(Glob::new(Prefix::Below, "2.3.?").matches_an_address());
        assert!(!Glob::new(Prefix::Below, "1.2.3.?").matches_an_address());
        assert!(Glob::new(Prefix::BodyAndBelow, "1.2.3.?").matches_an_address());
    }
}
