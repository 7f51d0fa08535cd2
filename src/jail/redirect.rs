//! Where connections to other hosts go in the jail's network: all addresses are local, and TCP to
//! those that are not loopback arrives at one port (nftables, `redirect`), which knows what they were
//! meant for. IPv6 has no route and goes nowhere.
//!
//! The messages are those of `linux/netfilter/nf_tables.h`, written by hand: there are three.

use super::{
    Fault,
    netlink::{
        LOOPBACK, NETFILTER, NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, ROUTE, exchange, message,
    },
};

/// Where they arrive.
pub(super) const PORT: u16 = 15_001;

const RTM_NEWROUTE: u16 = 24;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Of `nf_tables`, as the upper half of a message's kind and as that which a batch is for.
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NESTED: u16 = 0x8000;
const AF_INET: u8 = 2;

/// Leads them there.
pub(super) fn redirect() -> Result<(), Fault> {
    let cannot = |what| {
        move |error: std::io::Error| {
            Fault::new(what, error, "the kernel needs nf_tables with nft_redir")
        }
    };
    exchange(NETFILTER, &rules())
        .map_err(cannot("programs that know no proxy get no connection, cannot redirect them"))?;
    let route =
        message(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, &everything_local());
    exchange(ROUTE, &route).map_err(cannot(
        "programs that know no proxy get no connection, cannot lead them to loopback",
    ))
}

/// `ip route add local default dev lo`: a `struct rtmsg` of table local, scope host, type local.
fn everything_local() -> Vec<u8> {
    let mut body = vec![AF_INET, 0, 0, 0, 255, 3, 254, 2, 0, 0, 0, 0];
    body.extend(attribute(4, &LOOPBACK.to_ne_bytes()));
    body
}

/// table ip exeat { chain out { type nat hook output priority -100;
/// ip daddr != 127.0.0.0/8 meta l4proto tcp redirect to :PORT } }
fn rules() -> Vec<u8> {
    let table = |number| attribute(number, b"exeat\0");
    let chain = |number| attribute(number, b"out\0");
    let hook =
        [attribute(1, &3_u32.to_be_bytes()), attribute(2, &(-100_i32).to_be_bytes())].concat();
    let new_chain =
        [table(1), chain(3), attribute(4 | NESTED, &hook), attribute(7, b"nat\0")].concat();
    let number = |kind, value: u32| attribute(kind, &value.to_be_bytes());
    let data = |kind, value: &[u8]| attribute(kind | NESTED, &attribute(1, value));
    let expressions = [
        // The first byte of the destination, in the network header.
        expression("payload", &[number(1, 1), number(2, 1), number(3, 16), number(4, 1)]),
        expression("cmp", &[number(1, 1), number(2, 1), data(3, &[127])]),
        // The protocol is TCP.
        expression("meta", &[number(1, 1), number(2, 16)]),
        expression("cmp", &[number(1, 1), number(2, 0), data(3, &[6])]),
        expression("immediate", &[number(1, 1), data(2, &PORT.to_be_bytes())]),
        expression("redir", &[number(1, 1)]),
    ]
    .concat();
    let new_rule = [table(1), chain(2), attribute(4 | NESTED, &expressions)].concat();
    let create = NLM_F_REQUEST | NLM_F_CREATE;
    [
        message(BATCH_BEGIN, NLM_F_REQUEST, &[0, 0, 0, 10]),
        part(NEW_TABLE, create, &table(1)),
        part(NEW_CHAIN, create, &new_chain),
        part(NEW_RULE, create | NLM_F_ACK, &new_rule),
        message(BATCH_END, NLM_F_REQUEST, &[0, 0, 0, 10]),
    ]
    .concat()
}

/// One of a batch: a `struct nfgenmsg` for IPv4, and attributes.
fn part(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    message((SUBSYSTEM << 8) | kind, flags, &[&[AF_INET, 0, 0, 0], attributes].concat())
}

fn expression(name: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let name = attribute(1, format!("{name}\0").as_bytes());
    let data = attribute(2 | NESTED, &attributes.concat());
    attribute(1 | NESTED, &[name, data].concat())
}

/// A `struct nlattr` with its value, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
