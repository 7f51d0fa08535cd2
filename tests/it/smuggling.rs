//! Every message of the corpus, byte for byte, to a served proxy whose origin records what reached it.
//!
//! A row is sent as it is to a proxy that can resolve nothing, so that "forwarded" shows as a DNS
//! failure; and once more with the port of a recording origin written into it, length by length, so
//! that exactly the expected requests must arrive. A last, harmless request on the same connection
//! shows that both sides still agree where messages end.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    Connection, Proxy, ProxyBuilder, Recorded, Recorder, Reply, base64, eventually,
};

const CORPUS: &str = include_str!("../corpus/smuggling.jsonl");

/// Names of equal length once a port of five digits is appended: `example.com` and
/// `e.com:12345`, `example.com:443` and `ample.com:12345`.
const RULES: &str = r#"
allowed_domains = ["example.com", "*.example.com", "e.com", "*.e.com", "ample.com"]
denied_domains = ["*.exfil.example.com", "*.exfil.e.com", "*.exfil.ample.com"]
"#;

/// For the rows that never end their head, or their body.
const DEADLINES: &str = "[timeouts]\nrequest_head = \"2s\"\nidle = \"2s\"";

/// What came of a row.
#[derive(Debug)]
struct Outcome {
    /// Of the final answers, in order.
    answers: Vec<Reply>,
    /// The proxy closed the connection.
    closed: bool,
    hung: bool,
    /// What reached the origin, the sentinel aside.
    requests: Vec<Recorded>,
    tunnel: Option<Inside>,
}

/// What went through a tunnel.
#[derive(Debug)]
struct Inside {
    /// To the origin.
    sent: Vec<u8>,
    /// To the client, whose origin says nothing.
    told: Vec<u8>,
}

/// The rows whose first bytes in the tunnel are for nobody, or for another host, and what the
/// client is told then: that the hello has no end, and that the request is for another host.
const REFUSED_INSIDE: &[(&str, &[u8])] = &[
    ("SM-0392", &[21, 3, 3, 0, 2, 2, 50]),
    ("SM-0393", b"HTTP/1.1 403 exeat: the request is not for the host of this tunnel\r\n"),
];

#[tokio::test]
async fn requests_as_they_are() {
    let proxy = ProxyBuilder::new(RULES).start().await;
    run(&proxy, None).await;
}

#[tokio::test]
async fn requests_with_an_origin() {
    let (origin, proxy) = (Recorder::start().await, proxy().await);
    run(&proxy, Some(&origin)).await;
    let refused = |record: &Value| record["exeat.ending"] == "sni_mismatch";
    let ends = proxy.audit(REFUSED_INSIDE.len(), refused).await;
    let why: Vec<_> = ends.iter().map(|end| end["exeat.mismatch"].as_str().unwrap()).collect();
    assert_eq!(why, ["hello_malformed", "http_host"]);
}

/// What origins answer, byte for byte: what the client sees, and that the next answer is its own.
#[tokio::test]
async fn answers() {
    let proxy = proxy().await;
    let mut faults = Vec::new();
    let rows = rows("response");
    for row in &rows {
        if let Err(why) = answer_row(&proxy, row).await {
            faults.push(format!("{} {}: {why}", row["id"], row["why"]));
        }
    }
    println!("response: {} of {}", rows.len() - faults.len(), rows.len());
    assert!(faults.is_empty(), "{}:\n{}", faults.len(), faults.join("\n"));
    assert!(rows.len() >= 14, "the corpus has shrunk to {} answers", rows.len());
}

async fn answer_row(proxy: &Proxy, row: &Value) -> Result<(), String> {
    let origin = Recorder::start().await;
    let expect = &row["expect"];
    // What ends with its connection needs an end; everything else must end by itself.
    let framing = expect["framing"].as_str().unwrap_or("");
    let ends = framing.contains("close") || framing.contains("unterminated");
    origin.answer_next(&base64(row["upstream_bytes_b64"].as_str().unwrap()), ends);
    let mut connection = Connection::open(proxy.address).await;
    for segment in segments(row, Some(&origin)) {
        connection.stream.write_all(&segment).await.unwrap();
    }
    let answer = connection.answer().await.ok_or("no answer")?;
    let mut others = Vec::new();
    let closed = !ask_sentinel(&mut connection, Some(&origin), &mut others).await;
    if closed {
        let mut fresh = Connection::open(proxy.address).await;
        ask_sentinel(&mut fresh, Some(&origin), &mut others).await;
    }
    let is = |condition: bool, what: String| if condition { Ok(()) } else { Err(what) };
    is(!connection.hung, format!("no answer and no end {answer:?}"))?;
    is(others.is_empty(), format!("the next answer is another's: {others:?}"))?;
    let seen = origin.take();
    is(seen.len() == 2, format!("{} requests upstream", seen.len()))?;
    if expect["upstream_reuse"] == json!(false) {
        is(seen[0].connection != seen[1].connection, "the connection is used again".into())?;
    }
    let refused = answer.status == 502
        && answer.field("proxy-status").is_some_and(|s| {
            s.contains("http_protocol_error") || s.contains("http_response_header_section_size")
        });
    let relayed = expect["status"].as_u64() == Some(answer.status.into())
        && base64(expect["body_b64"].as_str().unwrap_or("")) == answer.body
        && answer.is_whole != framing.contains("unterminated")
        && (closed || expect["close"] != json!(true));
    let also = |word: &str| {
        let also = row["also_ok"].as_array().unwrap().iter();
        let mut actions = also.filter_map(|also| also["action"].as_str());
        actions.any(|action| action.starts_with(word))
    };
    let also_502 = row["also_ok"].as_array().unwrap().iter().any(|also| also["status"] == 502);
    let right = match expect["action"].as_str().unwrap() {
        "reject" if also("headers") => refused || !answer.is_whole && answer.body.is_empty(),
        "reject" if also("relay") => refused || answer.status == 200 && answer.is_whole,
        "reject" => refused,
        _ => relayed || refused && also_502,
    };
    is(right, format!("{answer:?} closed {closed}"))
}

async fn proxy() -> Proxy {
    ProxyBuilder::new(RULES)
        .local("e.com")
        .local("www.e.com")
        .local("ample.com")
        .settings(DEADLINES)
        .start()
        .await
}

fn rows(direction: &str) -> Vec<Value> {
    let rows = CORPUS.lines().map(|row| serde_json::from_str::<Value>(row).unwrap());
    rows.filter(|row| row["direction"] == direction).collect()
}

async fn run(proxy: &Proxy, origin: Option<&Recorder>) {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut faults = Vec::new();
    for row in rows("request") {
        let id = row["id"].as_str().unwrap();
        // What waits for a deadline is asked once.
        if origin.is_none() && row["class"] == "slow" {
            continue;
        }
        // A tunnel has an origin to itself, so that no other bytes are taken for its own.
        let own = Recorder::start().await;
        let origin = origin.map(|shared| if is_connect(&row) { &own } else { shared });
        let outcome = ask(proxy, origin, &row).await;
        let count = counts.entry(row["class"].as_str().unwrap().to_owned()).or_default();
        count.0 += 1;
        match judge(&row, &outcome, origin) {
            Ok(()) => count.1 += 1,
            Err(why) => faults.push(format!(
                "{id} {} {}: {why}\n    {:?} closed {} {:?}\n    {}",
                row["class"],
                row["printable"].as_str().unwrap().chars().take(160).collect::<String>(),
                outcome.answers.iter().map(|answer| answer.status).collect::<Vec<_>>(),
                outcome.closed,
                outcome.requests.iter().map(|r| (&r.head, r.is_whole)).collect::<Vec<_>>(),
                outcome.answers.last().map_or_else(String::new, |answer| format!("{answer:?}")),
            )),
        }
    }
    for (class, (count, kept)) in &counts {
        println!("{class}: {kept} of {count}");
    }
    assert!(faults.is_empty(), "{}:\n{}", faults.len(), faults.join("\n"));
    let count: usize = counts.values().map(|(count, _)| count).sum();
    assert!(count >= 240, "the corpus has shrunk to {count} requests");
}

fn is_connect(row: &Value) -> bool {
    base64(row["bytes_b64"].as_str().unwrap()).starts_with(b"CONNECT ")
}

/// Sends a row and reads what comes.
async fn ask(proxy: &Proxy, origin: Option<&Recorder>, row: &Value) -> Outcome {
    let note = row["note"].as_str().unwrap_or("");
    if let Some(origin) = origin.filter(|_| note.starts_with("origin answers 401")) {
        origin.answer_early(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    }
    let mut connection = Connection::open(proxy.address).await;
    for segment in segments(row, origin) {
        // The proxy may have refused and closed before the last one.
        connection.stream.write_all(&segment).await.ok();
    }
    let expected = row["expect"]["responses"].as_array().map_or(1, Vec::len);
    let mut answers = Vec::new();
    while answers.len() < expected {
        match connection.answer().await {
            Some(answer) => answers.push(answer),
            None => break,
        }
    }
    let mut outcome =
        Outcome { answers, closed: false, hung: false, requests: Vec::new(), tunnel: None };
    if is_connect(row) && outcome.answers.first().is_some_and(|a| a.status == 200) {
        // It may have been closed for its first bytes.
        connection.stream.shutdown().await.ok();
        let told = connection.rest().await;
        outcome.hung = connection.hung;
        outcome.closed = !connection.hung;
        outcome.tunnel = Some(Inside { sent: origin.unwrap().all_of(0).await, told });
        return outcome;
    }
    outcome.closed = !ask_sentinel(&mut connection, origin, &mut outcome.answers).await;
    outcome.hung = connection.hung;
    if let Some(origin) = origin {
        outcome.requests = match outcome.answers.first() {
            // The origin is told when the client has been.
            Some(answer) if answer.status == 408 && row["class"] == "cl_value" => {
                let taken = || Some(origin.take()).filter(|requests| !requests.is_empty());
                eventually("half a request", taken).await
            }
            _ => origin.take(),
        };
        outcome.requests.retain(|request| request.target() != "/sentinel");
    }
    outcome
}

/// The bytes of a row as they are to be written, with the port of the origin in them.
fn segments(row: &Value, origin: Option<&Recorder>) -> Vec<Vec<u8>> {
    let bytes = |text: &Value| base64(text.as_str().unwrap());
    let segments: Vec<Vec<u8>> = match row["segments"].as_array() {
        Some(segments) => segments.iter().map(|segment| bytes(&segment["b64"])).collect(),
        None => vec![bytes(&row["bytes_b64"])],
    };
    let Some(origin) = origin else { return segments };
    segments.iter().map(|segment| with_port(segment, origin.port())).collect()
}

/// Writes a port behind `example.com`, whose name gets that much shorter.
fn with_port(bytes: &[u8], port: u16) -> Vec<u8> {
    const NAME: &[u8] = b"example.com";
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if !rest.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let after = &rest[NAME.len()..];
        let ends = |text: &[u8]| {
            text.first()
                .is_none_or(|byte| matches!(byte, b'/' | b' ' | b'\r' | b'\n' | b'\t' | b'?'))
        };
        let (kept, replaced) = match after {
            [b':', b'4', b'4', b'3', more @ ..] if ends(more) => (&rest[2..11], 15),
            [b'.', more @ ..] if ends(more) => (&rest[6..12], 12),
            _ if ends(after) => (&rest[6..11], 11),
            _ => (&rest[..11], 0),
        };
        out.extend(kept);
        if replaced > 0 {
            out.extend(format!(":{port}").bytes());
        }
        at += replaced.max(11);
    }
    assert_eq!(out.len(), bytes.len(), "a port of five digits");
    out
}

/// Whether an outcome is the expected one, or another that the row accepts.
fn judge(row: &Value, outcome: &Outcome, origin: Option<&Recorder>) -> Result<(), String> {
    if let Some(inside) = &outcome.tunnel {
        judge_inside(row, inside)?;
    }
    let first = fits(&row["expect"], &row["expect"], outcome, origin);
    let also = row["also_ok"].as_array().unwrap();
    match also.iter().any(|also| fits(also, &row["expect"], outcome, origin).is_ok()) {
        true => Ok(()),
        false => first,
    }
}

/// Whether what went through a tunnel is what should: every byte, or nothing and a word to the
/// client if the first bytes are not for the host of the tunnel.
fn judge_inside(row: &Value, inside: &Inside) -> Result<(), String> {
    let (sent, told) = match REFUSED_INSIDE.iter().find(|(id, _)| row["id"] == *id) {
        Some((_, told)) => (Vec::new(), *told),
        None => (base64(row["expect"]["upstream_bytes_b64"].as_str().unwrap_or("")), &b""[..]),
    };
    let told_so = inside.told.starts_with(told) && inside.told.is_empty() == told.is_empty();
    match inside.sent == sent && told_so {
        true => Ok(()),
        false => Err(format!("in the tunnel: {inside:?}")),
    }
}

/// Compares with one verdict. What `also_ok` does not say is as in `expect`, as far as it goes.
fn fits(
    verdict: &Value,
    expect: &Value,
    outcome: &Outcome,
    origin: Option<&Recorder>,
) -> Result<(), String> {
    let is = |condition: bool, what: &str| if condition { Ok(()) } else { Err(what.to_owned()) };
    let statuses: Vec<u16> = outcome.answers.iter().map(|answer| answer.status).collect();
    let number = |value: &Value| value.as_u64().map(|status| u16::try_from(status).unwrap());
    let action = verdict["action"].as_str().unwrap_or_else(|| {
        match (&verdict["status"], &verdict["responses"]) {
            (Value::Number(_), _) => "reject",
            (_, Value::Array(_)) => "pipeline",
            _ => expect["action"].as_str().unwrap(),
        }
    });
    let word = action.split([' ', ':', ',']).next().unwrap();
    let responses = match word {
        "reject" | "deny" => vec![verdict["status"].clone()],
        "timeout" => vec![json!(408)],
        "close" => vec![],
        "tunnel" => vec![json!(200)],
        "403" => vec![json!(403), json!("from origin")],
        "forward" => vec![json!("from origin")],
        "pipeline" => verdict["responses"].as_array().unwrap().clone(),
        other => return Err(format!("an action of {other}")),
    };
    is(!outcome.hung, "no answer and no end")?;
    if let (Some(_), true) = (origin, action.contains("time out waiting")) {
        let partial = matches!(&*outcome.requests, [request] if !request.is_whole);
        return is(statuses == [408] && outcome.closed && partial, "not timed out");
    }
    // A refusal that leaves a body unread closes, and what nothing resolves is a refusal.
    let cut_short = origin.is_none() && outcome.closed && statuses.len() == 1;
    is(responses.len() == statuses.len() || cut_short, "the number of answers")?;
    let mut forwarded = 0;
    for (expected, answer) in responses.iter().zip(&outcome.answers) {
        let from_origin = match origin {
            Some(_) => matches!(answer.status, 200 | 401) && answer.field("proxy-status").is_none(),
            None => answer.field("proxy-status").is_some_and(|s| s.contains("dns_error")),
        };
        match number(expected) {
            // A tunnel to nowhere.
            Some(200) => {
                is(answer.status == 200 || (origin.is_none() && from_origin), "the status")?
            }
            Some(status) => {
                is(answer.status == status && (status == 200 || !from_origin), "the status")?
            }
            None => is(from_origin, "not from the origin")?,
        }
        forwarded += usize::from(number(expected).is_none());
        is(answer.is_whole, "an answer that breaks off")?;
    }
    // What forwarding leaves open, an alternative to a refusal need not say.
    let close = match word {
        "forward" | "tunnel" => None,
        _ => verdict["close"].as_bool().or_else(|| expect["close"].as_bool()),
    };
    if close == Some(true) {
        is(outcome.closed, "not closed")?;
    }
    let Some(origin) = origin else { return Ok(()) };
    if word == "tunnel" {
        return is(outcome.tunnel.is_some(), "no tunnel");
    }
    is(outcome.requests.len() == forwarded, "the number of requests upstream")?;
    is(outcome.requests.iter().all(|request| request.is_whole), "half a request upstream")?;
    if let (Some(request), Value::Object(_)) = (outcome.requests.first(), &expect["upstream"]) {
        let framing =
            verdict["framing"].as_str().or_else(|| expect["upstream"]["framing"].as_str());
        let relaxed = verdict["note"].is_string() || action.contains("octet");
        compare(request, &expect["upstream"], framing.unwrap(), relaxed, origin.port())?;
    }
    Ok(())
}

/// Compares what reached the origin.
fn compare(
    request: &Recorded,
    expected: &Value,
    framing: &str,
    relaxed: bool,
    port: u16,
) -> Result<(), String> {
    let is = |condition: bool, what: &str| if condition { Ok(()) } else { Err(what.to_owned()) };
    let port = format!(":{port}");
    let host = request.field("host").unwrap().strip_suffix(&port).ok_or("the port of Host")?;
    let host = if host == "e.com" { "example.com" } else { host };
    is(
        request.fields().iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).count() == 1,
        "one Host",
    )?;
    is(expected["method"] == request.method(), "the method")?;
    is(expected["target"] == request.target(), "the target")?;
    is(expected["host"] == host, "the host")?;
    is(base64(expected["body_b64"].as_str().unwrap()) == request.body, "the body")?;
    let found = match (request.field("content-length"), request.field("transfer-encoding")) {
        (None, None) => "none".to_owned(),
        (Some(length), None) => format!("content-length:{length}"),
        (None, Some(coding)) => coding.to_owned(),
        both => format!("{both:?}"),
    };
    is(framing.split(' ').next() == Some(&*found), &format!("framing {found}"))?;
    for wanted in expected["must_have"].as_array().into_iter().flatten() {
        let (name, value) = wanted.as_str().unwrap().split_once(": ").unwrap();
        let value = if value == "example.com" { format!("e.com{port}") } else { value.to_owned() };
        is(request.field(name) == Some(&value), &format!("has no {wanted}"))?;
    }
    for unwanted in expected["must_not_have"].as_array().into_iter().flatten() {
        let unwanted = unwanted.as_str().unwrap();
        // Remarks about trailers and extensions are what the recorder itself insists on.
        let has = match unwanted.split_once(": ") {
            Some((name, value)) => request.field(name) == Some(value),
            None => request.field(unwanted).is_some(),
        };
        is(relaxed || !has, &format!("has {unwanted}"))?;
    }
    Ok(())
}

/// Whether a further request is answered as it should be; what else comes is noted.
async fn ask_sentinel(
    connection: &mut Connection,
    origin: Option<&Recorder>,
    answers: &mut Vec<Reply>,
) -> bool {
    let (request, expected) = match origin {
        Some(origin) => {
            let host = format!("e.com:{}", origin.port());
            let get = format!("GET http://{host}/sentinel HTTP/1.1\r\nHost: {host}\r\n\r\n");
            (get, b"sentinel".as_slice())
        }
        None => ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), b"{\"audit\"".as_slice()),
    };
    if connection.stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    match connection.answer().await {
        Some(answer) if answer.status == 200 && answer.body.starts_with(expected) => true,
        Some(answer) => {
            answers.push(answer);
            true
        }
        None => false,
    }
}
