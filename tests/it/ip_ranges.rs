//! Every range, metadata service and embedded address of the corpus, as a literal and as an answer.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use exeat::{
    net::{Authority, Host, IpClass, Port},
    policy::{Egress, Outcome, Policy, Reason, Review, Source},
};
use serde_json::Value;

fn rows() -> impl Iterator<Item = Value> {
    let rows = include_str!("../corpus/ip_ranges.jsonl").lines();
    rows.map(|row| serde_json::from_str(row).unwrap())
}

fn allow_all(egress: Egress) -> Policy {
    let text = "[experimental_network]\nenabled = true\nallowed_domains = [\"*\"]\n";
    let review = Review::of(text.as_bytes(), &Arc::new(Source::file("requirements.toml")), 7);
    let Outcome::Ruleset(ruleset) = review.outcome else { panic!("{:?}", review.problems) };
    Policy::new(*ruleset, egress, 1)
}

/// Whether an address may be dialled: its class, the decision about the literal, and that about a
/// name that resolves to it, which must agree.
fn is_allowed(policy: &Policy, address: IpAddr) -> bool {
    let class = IpClass::of(address, &[]).is_global();
    let literal = Authority { host: Host::from(address), port: Port::HTTPS };
    let literal = policy.decide(&literal).map(drop);
    let name = Authority::parse_connect(b"name.test:443").unwrap();
    let answer = policy.vet(&policy.decide(&name).unwrap(), address).map(drop);
    for (what, verdict) in [("literal", &literal), ("answer", &answer)] {
        assert_eq!(verdict.is_ok(), class, "{address} as {what}: {verdict:?}");
        if let Err(denial) = verdict {
            assert_eq!(denial.reason, Reason::NotAllowedLocal, "{address} as {what}");
        }
    }
    class
}

#[test]
fn ranges_metadata_and_embedded_addresses() {
    let policy = allow_all(Egress::default());
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut faults = Vec::new();
    for row in rows().filter(|row| row["class"] != "name") {
        let tests = row["tests"].as_array().cloned().unwrap_or_else(|| vec![row.clone()]);
        for test in tests {
            let address: IpAddr = test["address"].as_str().unwrap().parse().unwrap();
            let found = if is_allowed(&policy, address) { "allowed" } else { "blocked" };
            // What lies outside a range is another row's matter.
            let inside = !test["pos"].as_str().unwrap_or("").starts_with("outside");
            let also = row["also_ok"].as_str().filter(|_| inside).unwrap_or("");
            if test["expect"] != found && !also.starts_with(found) {
                faults.push(format!("{} {address}: {found}", row["id"]));
            }
            *counts.entry(row["kind"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    println!("{counts:?}");
    assert!(faults.is_empty(), "{}:\n{}", faults.len(), faults.join("\n"));
    assert!(counts.values().sum::<usize>() >= 200, "the corpus has shrunk to {counts:?}");
}

/// Names of metadata services are refused, or else what they resolve to is.
#[test]
fn metadata_names() {
    let policy = allow_all(Egress::default());
    let mut count = 0;
    for row in rows().filter(|row| row["class"] == "name") {
        count += 1;
        let name = row["address"].as_str().unwrap();
        let authority = Authority::parse_connect(format!("{name}:80").as_bytes()).unwrap();
        match policy.decide(&authority) {
            Err(denial) => assert_eq!(denial.reason, Reason::NotAllowedLocal, "{name}"),
            Ok(permit) => {
                assert_eq!(row["also_ok"], "allowed by name, refused by its answer", "{name}");
                for address in ["169.254.169.254", "10.96.0.1", "fd00:ec2::254"] {
                    let vetted = policy.vet(&permit, address.parse().unwrap());
                    assert_eq!(vetted.unwrap_err().reason, Reason::NotAllowedLocal, "{name}");
                }
            }
        }
    }
    assert!(count >= 7, "the corpus has shrunk to {count} names");
}

/// A prefix of the network's own embeds addresses once the operator names it.
#[test]
fn network_specific_nat64() {
    let mut count = 0;
    for row in rows() {
        let Some(length) = row["form"].as_str().and_then(|form| form.rsplit_once("specific /"))
        else {
            continue;
        };
        count += 1;
        let address = row["address"].as_str().unwrap().parse().unwrap();
        let prefix = ipnet::Ipv6Net::new(address, length.1.parse().unwrap()).unwrap().trunc();
        let policy = allow_all(Egress { nat64: vec![prefix], ..Egress::default() });
        let literal = Authority { host: Host::from(IpAddr::V6(address)), port: Port::HTTPS };
        let denial = policy.decide(&literal).unwrap_err();
        assert_eq!(denial.reason, Reason::NotAllowedLocal, "{prefix} {address}");
    }
    assert!(count >= 3, "the corpus has shrunk to {count} prefixes");
}
