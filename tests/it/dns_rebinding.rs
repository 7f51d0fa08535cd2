//! Names whose answers turn against us: what each row's DNS server says, and what may be dialled.
//!
//! The rows name public addresses, so nothing is dialled: the policy decides, the resolver asks the
//! test's own server, the policy vets, and what would be dialled is looked at. Rows that end before
//! that are asked of a served proxy too.

use std::{net::IpAddr, sync::Arc, time::Duration};

use exeat::{
    dns::{DnsError, Resolver},
    net::{Authority, IpClass},
    policy::{Egress, Outcome, Policy, Review, Source},
    settings,
    upstream::{VetError, candidates},
};
use hickory_resolver::proto::op::ResponseCode;
use serde_json::Value;

use crate::support::{DnsServer, Family, Garbage, ProxyBuilder, Round, Zone, exchange};

/// Bounds a lookup. What the rows delay comes later than that.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a request comes to.
#[derive(Debug, Clone, PartialEq)]
enum End {
    Connect(Vec<IpAddr>),
    Deny,
    Error(u16),
}

#[tokio::test]
async fn vetted_rows() {
    let mut faults = Vec::new();
    let rows = rows();
    for row in &rows {
        let dns = zone(row).serve().await;
        if let Err(why) = run(row, &dns).await {
            faults.push(format!("{} {}: {why}", row["id"], row["name"]));
        }
    }
    println!("dns_rebinding: {} of {}", rows.len() - faults.len(), rows.len());
    assert!(faults.is_empty(), "{}:\n{}", faults.len(), faults.join("\n"));
    assert!(rows.len() >= 51, "the corpus has shrunk to {} rows", rows.len());
}

#[tokio::test]
async fn served_rows() {
    let mut count = 0;
    for row in rows() {
        let requests = row["requests"].as_array().unwrap();
        let refused = requests.iter().all(|request| request["expect"]["outcome"] != "connect");
        // A fault must not reach the world.
        let local = rounds(&row).iter().all(|round| {
            round.addresses.iter().all(|address| !IpClass::of(*address, &[]).is_global())
        });
        if !refused || !local {
            continue;
        }
        count += 1;
        let dns = zone(&row).serve().await;
        let proxy = ProxyBuilder::whole(rules(&row)).dns(dns.address).start().await;
        let host = format!("{}:{}", row["host"].as_str().unwrap(), row["port"]);
        let request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let status = exchange(proxy.address, request.as_bytes()).await.status;
        let end = if status == 403 { End::Deny } else { End::Error(status) };
        assert!(fits(&row, 0, &end), "{}: {status}", row["id"]);
    }
    println!("dns_rebinding, served: {count}");
    assert!(count >= 26, "only {count} rows were asked");
}

fn rows() -> Vec<Value> {
    let rows = include_str!("../corpus/dns_rebinding.jsonl").lines();
    rows.map(|row| serde_json::from_str(row).unwrap()).collect()
}

async fn run(row: &Value, dns: &DnsServer) -> Result<(), String> {
    let policy = Arc::new(policy(row));
    let settings = settings::Dns {
        servers: Some(vec![dns.address]),
        hosts: Default::default(),
        nat64: Vec::new(),
        cache: 64,
    };
    let resolver = Resolver::new(&settings, DEADLINE).unwrap();
    let host = row["host"].as_str().unwrap();
    let authority = Authority::parse_connect(format!("{host}:{}", row["port"]).as_bytes()).unwrap();
    for number in 0..row["requests"].as_array().unwrap().len() {
        // Rows that wait between requests accept what a cache says in that time.
        let end = ask(&policy, &authority, &resolver).await;
        if !fits(row, number, &end) {
            return Err(format!("request {number}: {end:?}"));
        }
        if let End::Connect(addresses) = &end
            && let Some(bad) = never_dial(row).into_iter().find(|bad| addresses.contains(bad))
        {
            return Err(format!("request {number} would dial {bad}"));
        }
        let most = usize::try_from(row["max_lookups_per_request"].as_u64().unwrap()).unwrap();
        // A server that fails is asked twice more, which is no second look at an answer.
        let failed = row["class"] == "failure" || matches!(end, End::Error(_));
        let most = if failed { 3 * most } else { most } * (number + 1);
        let host = host.to_lowercase();
        let asked = ["A", "AAAA"].map(|family| dns.count(&host, family));
        if asked.iter().any(|asked| *asked > most) {
            return Err(format!("{asked:?} lookups after request {number}"));
        }
    }
    // The answers' own aliases may be followed, and nothing else: no search domain, no guess.
    let aliases: Vec<String> = rounds(row).into_iter().flat_map(|round| round.aliases).collect();
    let known = |name: &String| *name == host.to_lowercase() || aliases.contains(name);
    if !dns.names_asked().iter().all(known) {
        return Err(format!("asked for {:?}", dns.names_asked()));
    }
    if row["note"].as_str().is_some_and(|note| note.starts_with("a second name denied")) {
        let denied = Authority::parse_connect(b"data.exfil.example.com:443").unwrap();
        policy.decide(&denied).map_or(Ok(()), |_| Err("another name is allowed".to_owned()))?;
    }
    Ok(())
}

async fn ask(policy: &Arc<Policy>, authority: &Authority, resolver: &Resolver) -> End {
    let Ok(permit) = policy.decide(authority) else { return End::Deny };
    match candidates(policy, &permit, resolver).await {
        Ok(candidates) => {
            let vetted = candidates.vetted().iter();
            End::Connect(vetted.map(|address| address.socket_addr().ip()).collect())
        }
        Err(VetError::Denied(_)) => End::Deny,
        Err(VetError::Dns(DnsError::Timeout)) => End::Error(504),
        Err(VetError::Dns(_)) => End::Error(502),
    }
}

/// Whether a row expects that end of its request, or accepts it.
fn fits(row: &Value, request: usize, end: &End) -> bool {
    let is = |expected: &Value| match (expected["outcome"].as_str(), end) {
        (Some("connect"), End::Connect(found)) => {
            let any_of = addresses(&expected["to_any_of"]);
            !found.is_empty() && found.iter().all(|address| any_of.contains(address))
        }
        (Some("deny"), End::Deny) => true,
        (Some("error"), End::Error(status)) => expected["status"] == *status,
        _ => false,
    };
    let also = row["also_ok"].as_array().unwrap().iter();
    is(&row["requests"][request]["expect"])
        || also.map(|also| if request == 1 { &also["second request"] } else { also }).any(is)
}

fn never_dial(row: &Value) -> Vec<IpAddr> {
    addresses(&row["never_dial"])
}

fn addresses(list: &Value) -> Vec<IpAddr> {
    let list = list.as_array().into_iter().flatten();
    list.map(|address| address.as_str().unwrap().parse().unwrap()).collect()
}

fn zone(row: &Value) -> Zone {
    let host = row["host"].as_str().unwrap().to_lowercase();
    Zone::default().script(&host, rounds(row))
}

fn rounds(row: &Value) -> Vec<Round> {
    row["rounds"].as_array().unwrap().iter().map(round).collect()
}

fn round(text: &Value) -> Round {
    let family = |name: &str| Family {
        delay: Duration::from_millis(text[format!("{name}_delay_ms")].as_u64().unwrap_or(0)),
        code: code(&text[format!("{name}_rcode")]).or_else(|| code(&text["rcode"])),
    };
    let additional = text["additional"].as_array().into_iter().flatten();
    Round {
        addresses: [addresses(&text["A"]), addresses(&text["AAAA"])].concat(),
        ttl: u32::try_from(text["ttl"].as_u64().unwrap()).unwrap(),
        v4: family("a"),
        v6: family("aaaa"),
        aliases: text["cname"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|alias| alias.as_str().unwrap().to_owned())
            .collect(),
        additional: additional
            .map(|record| {
                let text = |key: &str| record[key].as_str().unwrap();
                (text("name").to_owned(), text("data").parse().unwrap())
            })
            .collect(),
        garbage: match (text["malformed"].is_string(), text["pad_bytes"].is_u64()) {
            (true, _) => Some(Garbage::PointerLoop),
            (_, true) => Some(Garbage::TooLong),
            (false, false) => None,
        },
    }
}

fn code(text: &Value) -> Option<ResponseCode> {
    match text.as_str()? {
        "NOERROR" => None,
        "NXDOMAIN" => Some(ResponseCode::NXDomain),
        "REFUSED" => Some(ResponseCode::Refused),
        "SERVFAIL" => Some(ResponseCode::ServFail),
        other => panic!("a code of {other}"),
    }
}

fn policy(row: &Value) -> Policy {
    let text = rules(row);
    let review = Review::of(text.as_bytes(), &Arc::new(Source::file("requirements.toml")), 7);
    let Outcome::Ruleset(ruleset) = review.outcome else { panic!("{:?}", review.problems) };
    let mut egress = Egress::default();
    let round = &row["rounds"][0];
    if round["note"].as_str().is_some_and(|note| note.contains("address of the proxy itself")) {
        let listener = format!("{}:{}", round["A"][0].as_str().unwrap(), row["port"]);
        egress.listeners.push(listener.parse().unwrap());
    }
    Policy::new(*ruleset, egress, 1)
}

/// The policy that a row names.
fn rules(row: &Value) -> &'static str {
    match row["policy"].as_str().unwrap().split(':').next().unwrap() {
        "P1" => {
            "[experimental_network]\nenabled = true\n\
             allowed_domains = [\"example.com\", \"*.example.com\"]\n\
             denied_domains = [\"*.exfil.example.com\"]\n"
        }
        "P2" => {
            "[experimental_network]\nenabled = true\nallowed_domains = [\"*\"]\n\
             denied_domains = [\"*.exfil.example.com\", \"denied.test\", \"*.denied.test\", \
             \"8.8.4.4\", \"2001:4860:4860::8844\"]\n"
        }
        "P3" => {
            "[experimental_network]\nenabled = true\n\
             allowed_domains = [\"127.0.0.1\", \"*.example.com\"]\n"
        }
        "P4" => "[experimental_network]\nenabled = true\nallowed_domains = [\"localhost\"]\n",
        other => panic!("a policy of {other}"),
    }
}
