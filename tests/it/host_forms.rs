//! Every spelling of a host in the corpus gets its verdict, as CONNECT target, in absolute-form, as
//! `Host` and as a name of SOCKS5. Names in a ClientHello have a test of their own.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use exeat::{
    net::{Authority, Port, Scheme, Target},
    policy::{Egress, Outcome, Policy, Review, Source},
    socks5::{Handshake, Step},
};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Proxy, ProxyBuilder, Zone, base64, exchange, raw_connect};

const P1: &str = r#"
[experimental_network]
enabled = true
allowed_domains = ["example.com", "*.example.com"]
denied_domains = ["*.exfil.example.com"]
"#;

const P2: &str = r#"
[experimental_network]
enabled = true
allowed_domains = ["*"]
denied_domains = [
    "*.exfil.example.com", "denied.test", "*.denied.test", "xn--bcher-kva.test",
    "8.8.4.4", "2001:4860:4860::8844",
]
"#;

/// Rows whose verdict for absolute-form is not kept: `http://example.com:443//` is a URL with the
/// path `//`, which RFC 3986 and WHATWG read alike; the row takes the slash for part of the port.
const NOT_KEPT: &[(&str, &str)] = &[("HF-0707", "absolute"), ("HF-0753", "absolute")];

/// The context of a `Host` field.
const HOST: &str = "host_header";

/// Those of SOCKS5: a name, and a whole request.
const SOCKS: &str = "socks5";
const SOCKS_REQUEST: &str = "socks5_request";

/// That authentication is not needed.
const GREETING: &[u8] = &[5, 1, 0];

#[derive(Debug, Clone, PartialEq)]
enum Verdict {
    AllowAs(String),
    BadRequest,
    Deny,
}

#[test]
fn own_rows() {
    run(include_str!("../corpus/host_forms.jsonl"), 400);
}

#[test]
fn web_platform_rows() {
    run(include_str!("../corpus/host_forms_wpt.jsonl"), 900);
}

/// The same rows as bytes to a served proxy. The test's DNS server knows no name, so an allowed one
/// is answered 502, and the server has been asked for exactly that name.
#[tokio::test]
async fn served_rows() {
    let dns = Zone::default().serve().await;
    let mut faults = Vec::new();
    let mut count = 0;
    for (name, text) in [("P1", P1), ("P2", P2)] {
        let policy = policy(text);
        let builder = ProxyBuilder::whole(text).dns(dns.address);
        let proxy = builder.flag("--socks=127.0.0.1:0").start().await;
        let own = include_str!("../corpus/host_forms.jsonl").lines();
        let web = include_str!("../corpus/host_forms_wpt.jsonl").lines();
        for row in own.chain(web) {
            let row: Value = serde_json::from_str(row).unwrap();
            for context in contexts(&row).into_iter().filter(|context| *context != HOST) {
                let target = target(&row, context);
                let judged = judge(&policy, &target, context);
                let not_kept = NOT_KEPT.contains(&(row["id"].as_str().unwrap(), context));
                let literal =
                    matches!(&judged, Verdict::AllowAs(host) if host.parse::<IpAddr>().is_ok());
                if literal || not_kept {
                    continue; // A public address, which a test must not dial.
                }
                count += 1;
                let status = match context {
                    SOCKS | SOCKS_REQUEST => ask_by_socks(&proxy, &target).await,
                    _ => ask(&proxy, &target, context).await,
                };
                let found = match (status, &judged) {
                    (400, _) => Verdict::BadRequest,
                    (403, _) => Verdict::Deny,
                    (502, Verdict::AllowAs(host)) if dns.names_asked().contains(host) => {
                        judged.clone()
                    }
                    (status, judged) => panic!("{}: {status}, {judged:?}", row["id"]),
                };
                if !matches!(compare(&row, context, name, &found), Fit::Right) {
                    faults.push(format!("{} {context} {name}: {found:?}", row["id"]));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} of {count}:\n{}", faults.len(), faults.join("\n"));
    assert!(count > 4000, "only {count} rows were asked");
}

/// As the only word on where a request goes, `Host` is not believed: such requests are not proxied.
/// Beside a target it must be another spelling of it.
#[tokio::test]
async fn host_fields() {
    let dns = Zone::default().serve().await;
    let proxy = ProxyBuilder::whole(P2).dns(dns.address).start().await;
    let target = Authority::parse_connect(b"example.com:80").unwrap();
    let mut agreeing = 0;
    let mut count = 0;
    let own = include_str!("../corpus/host_forms.jsonl").lines();
    let web = include_str!("../corpus/host_forms_wpt.jsonl").lines();
    for row in own.chain(web) {
        let row: Value = serde_json::from_str(row).unwrap();
        if !contexts(&row).contains(&HOST) {
            continue;
        }
        count += 1;
        let host = self::target(&row, HOST);
        let ask = async |line: &[u8]| {
            let request = [line, b" HTTP/1.1\r\nHost: ", &host, b"\r\n\r\n"].concat();
            exchange(proxy.address, &request).await.status
        };
        assert_eq!(ask(b"GET /").await, 400, "{}", row["id"]);
        let agrees = Authority::parse_or(&host, Port::HTTP).is_ok_and(|host| host == target);
        agreeing += usize::from(agrees);
        // The test's DNS server knows no name.
        let expected = if agrees { 502 } else { 400 };
        assert_eq!(ask(b"GET http://example.com/").await, expected, "{}", row["id"]);
    }
    assert!(count >= 1000 && agreeing >= 5, "{agreeing} of {count}");
    assert!(dns.names_asked().iter().all(|name| name == "example.com"), "{:?}", dns.names_asked());
}

/// Sends a request with that target, whatever its bytes, and says the status of the answer.
async fn ask(proxy: &Proxy, target: &[u8], context: &str) -> u16 {
    let (method, authority) = match context {
        "connect" => ("CONNECT", Authority::parse_connect(target).ok()),
        _ => ("GET", Target::parse(target).ok().map(|target| target.authority)),
    };
    // A Host that agrees with the target, as clients send it, if the target has a reading at all.
    let host = authority.map_or_else(|| "example.com".into(), |authority| authority.to_string());
    let mut request = format!("{method} ").into_bytes();
    request.extend(target);
    request.extend(format!(" HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes());
    exchange(proxy.address, &request).await.status
}

/// The same by SOCKS5, its answers as those of HTTP.
async fn ask_by_socks(proxy: &Proxy, request: &[u8]) -> u16 {
    let mut stream = raw_connect(proxy.socks()).await;
    stream.write_all(&[GREETING, request].concat()).await.unwrap();
    if socks_request(request).is_none() {
        // One that is not all there would be waited for.
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    match answer.as_slice() {
        [5, 0] | [5, 0, 5, 1 | 7 | 8, ..] => 400,
        [5, 0, 5, 2, ..] => 403,
        [5, 0, 5, 4, ..] => 502,
        other => panic!("{other:?}"),
    }
}

fn socks_request(request: &[u8]) -> Option<Authority> {
    let mut handshake = Handshake::default();
    handshake.look(GREETING).unwrap();
    match handshake.look(request).ok()? {
        Step::Asked { authority, .. } => Some(authority),
        Step::More => None,
        Step::Answer { .. } => panic!("an answer to a request"),
    }
}

fn contexts(row: &Value) -> Vec<&'static str> {
    let named = row["contexts"].as_array().unwrap();
    // Longer ones cannot be said in SOCKS5.
    let fits = |context| context != SOCKS || input(row).len() <= 255;
    ["connect", "absolute", HOST, SOCKS, SOCKS_REQUEST]
        .into_iter()
        .filter(|context| named.iter().any(|c| c == context) && fits(*context))
        .collect()
}

fn run(rows: &str, at_least: usize) {
    let policies = [("P1", policy(P1)), ("P2", policy(P2))];
    let mut faults = Vec::new();
    let mut swapped: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = 0;
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        for context in contexts(&row) {
            if NOT_KEPT.contains(&(row["id"].as_str().unwrap(), context)) {
                continue;
            }
            for (name, policy) in &policies {
                count += 1;
                let found = judge(policy, &target(&row, context), context);
                match compare(&row, context, name, &found) {
                    Fit::Right => {}
                    Fit::Swapped => {
                        *swapped.entry(row["class"].as_str().unwrap().to_owned()).or_default() += 1;
                    }
                    Fit::Wrong(expected) => faults.push(format!(
                        "{} {context} {name} {}: {found:?}, not {expected}",
                        row["id"], row["input"]
                    )),
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} of {count}:\n{}", faults.len(), faults.join("\n"));
    assert!(count >= at_least, "the corpus has shrunk to {count} cases");
    let swapped: usize = swapped.values().sum();
    assert_eq!(swapped, 0, "deny and bad_request swapped");
}

fn policy(text: &str) -> Policy {
    let review = Review::of(text.as_bytes(), &Arc::new(Source::file("requirements.toml")), 7);
    let Outcome::Ruleset(ruleset) = review.outcome else { panic!("{:?}", review.problems) };
    Policy::new(*ruleset, Egress::default(), 1)
}

fn input(row: &Value) -> Vec<u8> {
    match row["input_b64"].as_str() {
        Some(encoded) => base64(encoded),
        None => row["input"].as_str().unwrap().as_bytes().to_vec(),
    }
}

/// The request target that carries the row's input; of SOCKS5 the whole request.
fn target(row: &Value, context: &str) -> Vec<u8> {
    let input = input(row);
    let mut target = Vec::new();
    match (row["kind"].as_str().unwrap(), context) {
        ("host", "connect") => {
            target.extend(input);
            target.extend(b":443");
        }
        ("host", SOCKS) => return crate::socks::by_name(&input, 443),
        // Spaces around a field's value are none of it (RFC 9110 §5.5).
        (_, HOST) => {
            let text = input.as_slice();
            let space = |byte: &u8| !matches!(byte, b' ' | b'\t');
            let start = text.iter().position(space).unwrap_or(text.len());
            let end = text.iter().rposition(space).map_or(start, |at| at + 1);
            target.extend(&text[start..end]);
        }
        ("host" | "authority", "absolute") => {
            target.extend(b"http://");
            target.extend(input);
            target.extend(b"/");
        }
        _ => target.extend(input),
    }
    target
}

fn judge(policy: &Policy, target: &[u8], context: &str) -> Verdict {
    let authority = match context {
        "connect" => Authority::parse_connect(target).ok(),
        HOST => Authority::parse_or(target, Port::HTTP).ok(),
        SOCKS | SOCKS_REQUEST => socks_request(target),
        _ => Target::parse(target)
            .ok()
            .filter(|target| target.scheme == Scheme::Http)
            .map(|target| target.authority),
    };
    let Some(authority) = authority else { return Verdict::BadRequest };
    match policy.decide(&authority) {
        Ok(permit) => Verdict::AllowAs(permit.authority().host.to_bare_string()),
        Err(_) => Verdict::Deny,
    }
}

enum Fit {
    Right,
    Swapped,
    Wrong(String),
}

fn compare(row: &Value, context: &str, policy: &str, found: &Verdict) -> Fit {
    let expected = match &row["by_context"][context][policy] {
        Value::String(verdict) => verdict.clone(),
        _ => row["expect"][policy].as_str().unwrap().to_owned(),
    };
    let found = match found {
        Verdict::AllowAs(host) => format!("allow_as:{host}"),
        Verdict::BadRequest => "bad_request".to_owned(),
        Verdict::Deny => "deny".to_owned(),
    };
    // A remark may follow the verdict in brackets, a port after a space.
    let fits = |verdict: &str| verdict.split(' ').next() == Some(found.as_str());
    let also = row["also_ok"][policy].as_array().into_iter().flatten();
    if fits(&expected) || also.filter_map(Value::as_str).any(fits) {
        Fit::Right
    } else if !found.starts_with("allow") && !expected.starts_with("allow") {
        Fit::Swapped
    } else {
        Fit::Wrong(expected)
    }
}
