//! What kind of address an address is: globally reachable, special, or a cloud's metadata service.
//!
//! A table of the IANA special-purpose registries with the RFC of each row, most specific row
//! first. Not a policy: whether a special address may be dialled is decided in `policy`.
//!
//! Sources: <https://www.iana.org/assignments/iana-ipv4-special-registry> and
//! <https://www.iana.org/assignments/iana-ipv6-special-registry>, columns "Globally Reachable".
//! Rows whose flag is N/A (terminated, or tunnels that embed an IPv4 address) count as not
//! reachable. Outside `2000::/3` IANA has assigned no global unicast space.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialRange {
    /// The registry's name for it.
    pub name: &'static str,
    /// Where it is defined.
    pub source: &'static str,
    base: u128,
    prefix: u32,
    reachability: Reachability,
}

/// How an address is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpClass {
    /// Globally reachable unicast.
    Global,
    /// The address of a cloud's metadata or platform service, whatever range it lies in.
    Metadata(&'static str),
    /// Not globally reachable, and which row says so.
    Special(&'static SpecialRange),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reachability {
    Global,
    NotGlobal,
}

impl IpClass {
    /// Classifies an address.
    ///
    /// IPv4-mapped addresses, NAT64's well-known prefix (RFC 6052) and the operator's own `nat64`
    /// prefixes are judged by the IPv4 address they embed.
    #[must_use]
    pub fn of(address: IpAddr, nat64: &[Ipv6Net]) -> Self {
        match Self::judged_address(address, nat64) {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    /// The address that is judged in its place: the embedded IPv4 address, or itself.
    #[must_use]
    pub fn judged_address(address: IpAddr, nat64: &[Ipv6Net]) -> IpAddr {
        match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => embedded_v4(v6, nat64).map_or(address, IpAddr::V4),
        }
    }

    /// Whether this is ordinary public unicast.
    #[must_use]
    pub fn is_global(self) -> bool {
        self == Self::Global
    }

    fn of_v4(v4: Ipv4Addr) -> Self {
        if let Some((_, name)) = METADATA_V4.iter().find(|(address, _)| *address == v4) {
            return Self::Metadata(name);
        }
        lookup(V4_RANGES, u128::from(v4.to_bits()), 32)
    }

    fn of_v6(v6: Ipv6Addr) -> Self {
        if let Some((_, name)) = METADATA_V6.iter().find(|(address, _)| *address == v6) {
            return Self::Metadata(name);
        }
        if is_isatap(v6) {
            return Self::Special(&ISATAP);
        }
        lookup(V6_RANGES, v6.to_bits(), 128)
    }
}

/// The first row that holds the address decides; no row at all means global.
fn lookup(rows: &'static [SpecialRange], bits: u128, width: u32) -> IpClass {
    let row = rows.iter().find(|row| {
        let host_bits = width - row.prefix;
        bits.checked_shr(host_bits) == row.base.checked_shr(host_bits)
    });
    match row {
        Some(row) if row.reachability == Reachability::NotGlobal => IpClass::Special(row),
        Some(_) | None => IpClass::Global,
    }
}

/// The IPv4 address inside a mapped or NAT64 address (RFC 6052 §2.2).
fn embedded_v4(v6: Ipv6Addr, nat64: &[Ipv6Net]) -> Option<Ipv4Addr> {
    if let Some(v4) = v6.to_ipv4_mapped() {
        return Some(v4);
    }
    let o = v6.octets();
    if v6.to_bits() >> 32 == NAT64_WELL_KNOWN >> 32 {
        return Some(Ipv4Addr::new(o[12], o[13], o[14], o[15]));
    }
    let prefix = nat64.iter().find(|prefix| prefix.contains(&v6))?;
    // Bits 64 to 71 are not used by the embedding (RFC 6052 §2.2).
    Some(match prefix.prefix_len() {
        32 => Ipv4Addr::new(o[4], o[5], o[6], o[7]),
        40 => Ipv4Addr::new(o[5], o[6], o[7], o[9]),
        48 => Ipv4Addr::new(o[6], o[7], o[9], o[10]),
        56 => Ipv4Addr::new(o[7], o[9], o[10], o[11]),
        64 => Ipv4Addr::new(o[9], o[10], o[11], o[12]),
        _ => Ipv4Addr::new(o[12], o[13], o[14], o[15]),
    })
}

/// The interface identifier of RFC 5214 §6.1, in any prefix.
fn is_isatap(v6: Ipv6Addr) -> bool {
    matches!(v6.segments(), [.., 0x0000 | 0x0200, 0x5efe, _, _])
}

const NAT64_WELL_KNOWN: u128 = 0x0064_ff9b << 96;

const METADATA_V4: &[(Ipv4Addr, &str)] = &[
    (Ipv4Addr::new(100, 100, 100, 200), "Alibaba Cloud metadata"),
    (Ipv4Addr::new(168, 63, 129, 16), "Azure platform service"),
    (Ipv4Addr::new(169, 254, 0, 23), "Tencent Cloud metadata"),
    (Ipv4Addr::new(169, 254, 42, 42), "Scaleway metadata"),
    (Ipv4Addr::new(169, 254, 169, 250), "Rancher metadata"),
    (Ipv4Addr::new(169, 254, 169, 254), "cloud metadata"),
    (Ipv4Addr::new(169, 254, 170, 2), "AWS ECS task credentials"),
    (Ipv4Addr::new(169, 254, 170, 23), "AWS EKS pod identity"),
    (Ipv4Addr::new(192, 0, 0, 192), "Oracle Cloud metadata"),
];

const METADATA_V6: &[(Ipv6Addr, &str)] = &[
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23), "AWS EKS pod identity"),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253), "AWS resolver"),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), "AWS metadata"),
    (Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), "Scaleway metadata"),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), "Google Cloud metadata"),
];

const fn v4(base: [u8; 4], prefix: u32, name: &'static str, source: &'static str) -> SpecialRange {
    #[expect(clippy::as_conversions, reason = "widening; `From` is not const")]
    let base = u32::from_be_bytes(base) as u128;
    SpecialRange { name, source, base, prefix, reachability: Reachability::NotGlobal }
}

const fn v6(head: [u16; 4], prefix: u32, name: &'static str, source: &'static str) -> SpecialRange {
    let [a, b, c, d] = head;
    let base = Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_bits();
    SpecialRange { name, source, base, prefix, reachability: Reachability::NotGlobal }
}

const fn reachable(row: SpecialRange) -> SpecialRange {
    SpecialRange { reachability: Reachability::Global, ..row }
}

const fn with_tail(row: SpecialRange, tail: u128) -> SpecialRange {
    SpecialRange { base: row.base | tail, ..row }
}

const V4_RANGES: &[SpecialRange] = &[
    v4([0, 0, 0, 0], 8, "this network", "RFC 791 §3.2"),
    v4([10, 0, 0, 0], 8, "private use", "RFC 1918"),
    v4([100, 64, 0, 0], 10, "shared address space", "RFC 6598"),
    v4([127, 0, 0, 0], 8, "loopback", "RFC 1122 §3.2.1.3"),
    v4([169, 254, 0, 0], 16, "link local", "RFC 3927"),
    v4([172, 16, 0, 0], 12, "private use", "RFC 1918"),
    reachable(v4([192, 0, 0, 9], 32, "PCP anycast", "RFC 7723")),
    reachable(v4([192, 0, 0, 10], 32, "TURN anycast", "RFC 8155")),
    v4([192, 0, 0, 0], 24, "IETF protocol assignments", "RFC 6890 §2.1"),
    v4([192, 0, 2, 0], 24, "documentation", "RFC 5737"),
    v4([192, 88, 99, 0], 24, "deprecated 6to4 relay anycast", "RFC 7526"),
    v4([192, 168, 0, 0], 16, "private use", "RFC 1918"),
    v4([198, 18, 0, 0], 15, "benchmarking", "RFC 2544"),
    v4([198, 51, 100, 0], 24, "documentation", "RFC 5737"),
    v4([203, 0, 113, 0], 24, "documentation", "RFC 5737"),
    v4([224, 0, 0, 0], 4, "multicast", "RFC 5771"),
    v4([240, 0, 0, 0], 4, "reserved, limited broadcast", "RFC 1112 §4, RFC 8190"),
];

const V6_RANGES: &[SpecialRange] = &[
    with_tail(v6([0, 0, 0, 0], 128, "loopback", "RFC 4291 §2.5.3"), 1),
    v6([0, 0, 0, 0], 128, "unspecified", "RFC 4291 §2.5.2"),
    v6([0, 0, 0, 0], 96, "IPv4-compatible", "RFC 4291 §2.5.5.1"),
    with_tail(v6([0, 0, 0, 0], 96, "IPv4-translated", "RFC 2765 §2.1"), 0xffff << 48),
    v6([0x64, 0xff9b, 1, 0], 48, "local-use IPv4/IPv6 translation", "RFC 8215"),
    v6([0x100, 0, 0, 0], 64, "discard only", "RFC 6666"),
    v6([0x100, 0, 0, 1], 64, "dummy prefix", "RFC 9780"),
    v6([0x2001, 0, 0, 0], 32, "Teredo", "RFC 4380"),
    reachable(with_tail(v6([0x2001, 1, 0, 0], 128, "PCP anycast", "RFC 7723"), 1)),
    reachable(with_tail(v6([0x2001, 1, 0, 0], 128, "TURN anycast", "RFC 8155"), 2)),
    reachable(with_tail(v6([0x2001, 1, 0, 0], 128, "DNS-SD SRP anycast", "RFC 9665"), 3)),
    v6([0x2001, 2, 0, 0], 48, "benchmarking", "RFC 5180"),
    reachable(v6([0x2001, 3, 0, 0], 32, "AMT", "RFC 7450")),
    reachable(v6([0x2001, 4, 0x112, 0], 48, "AS112", "RFC 7535")),
    v6([0x2001, 0x10, 0, 0], 28, "deprecated ORCHID", "RFC 4843"),
    reachable(v6([0x2001, 0x20, 0, 0], 28, "ORCHIDv2", "RFC 7343")),
    reachable(v6([0x2001, 0x30, 0, 0], 28, "drone remote ID", "RFC 9374")),
    v6([0x2001, 0, 0, 0], 23, "IETF protocol assignments", "RFC 2928"),
    v6([0x2001, 0xdb8, 0, 0], 32, "documentation", "RFC 3849"),
    v6([0x2002, 0, 0, 0], 16, "6to4", "RFC 3056"),
    v6([0x3fff, 0, 0, 0], 20, "documentation", "RFC 9637"),
    reachable(v6([0x2000, 0, 0, 0], 3, "global unicast", "RFC 4291 §2.4")),
    v6([0x5f00, 0, 0, 0], 16, "segment routing SIDs", "RFC 9602"),
    v6([0xfc00, 0, 0, 0], 7, "unique local", "RFC 4193"),
    v6([0xfe80, 0, 0, 0], 10, "link local", "RFC 4291 §2.5.6"),
    v6([0xfec0, 0, 0, 0], 10, "deprecated site local", "RFC 3879"),
    v6([0xff00, 0, 0, 0], 8, "multicast", "RFC 4291 §2.7"),
    v6([0, 0, 0, 0], 0, "not assigned as global unicast", "RFC 4291 §2.4"),
];

const ISATAP: SpecialRange = v6([0, 0, 0, 0], 0, "ISATAP", "RFC 5214");

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> IpClass {
        IpClass::of(text.parse().unwrap(), &[])
    }

    #[test]
    fn global() {
        for text in [
            "8.8.8.8",
            "93.184.216.34",
            "1.0.0.0",
            "9.255.255.255",
            "172.32.0.0",
            "192.0.0.9",
            "2606:2800:220:1:248:1893:25c8:1946",
            "2001:4860:4860::8844",
            "2001:1::2",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(class(text).is_global(), "{text}");
        }
    }

    #[test]
    fn special() {
        for (text, name) in [
            ("0.0.0.0", "this network"),
            ("127.255.255.255", "loopback"),
            ("172.31.255.255", "private use"),
            ("255.255.255.255", "reserved, limited broadcast"),
            ("192.0.0.8", "IETF protocol assignments"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::8.8.8.8", "IPv4-compatible"),
            ("::ffff:0:8.8.8.8", "IPv4-translated"),
            ("::ffff:10.0.0.1", "private use"),
            ("64:ff9b::a00:1", "private use"),
            ("64:ff9b:1::808:808", "local-use IPv4/IPv6 translation"),
            ("2002:808:808::1", "6to4"),
            ("2001:0:4136:e378::", "Teredo"),
            ("2606:4700::5efe:a00:1", "ISATAP"),
            ("200::1", "not assigned as global unicast"),
            ("fd7a:115c:a1e0::53", "unique local"),
        ] {
            let IpClass::Special(row) = class(text) else { panic!("{text}: {:?}", class(text)) };
            assert_eq!(row.name, name, "{text}");
        }
    }

    #[test]
    fn metadata_whatever_the_spelling() {
        for text in
            ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "168.63.129.16"]
        {
            assert!(matches!(class(text), IpClass::Metadata(_)), "{text}");
        }
        assert!(matches!(class("fd00:ec2::254"), IpClass::Metadata(_)));
    }

    #[test]
    fn operator_prefixes_embed_ipv4() {
        for (prefix, address) in [
            ("2001:db8::/32", "2001:db8:a00:1::"),
            ("2001:db8:100::/40", "2001:db8:10a:0:1::"),
            ("2001:db8:122::/48", "2001:db8:122:a00:0:100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:30a:0:1::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:a:0:100:0"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::10.0.0.1"),
        ] {
            let nat64 = [prefix.parse().unwrap()];
            let class = IpClass::of(address.parse().unwrap(), &nat64);
            let IpClass::Special(row) = class else { panic!("{prefix}: {class:?}") };
            assert_eq!(row.name, "private use", "{prefix}");
        }
    }
}
