//! The corpus of first bytes, and the reader of hellos on every row of it.

use std::{sync::LazyLock, time::Duration};

use exeat::{
    net::{Authority, Host},
    tls::{Beginning, Following, HelloReader, Next, beginning_of},
};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::Config};
use serde_json::Value;

use crate::{acceptor::name_read_by_rustls, support::base64};

/// Rows whose `verify` verdict is to pass and that are closed: `also_ok` has that too.
const STRICTER: &[&str] = &["TS-104"];

/// A row of the corpus.
pub(crate) struct Row {
    pub(crate) id: String,
    /// Whether it comes as CONNECT, and not as a connection that was redirected.
    pub(crate) connect: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) bytes: Vec<u8>,
    /// Pieces, and how long to wait before each.
    pub(crate) segments: Vec<(Duration, Vec<u8>)>,
    pub(crate) passes: bool,
    pub(crate) is_hello: bool,
}

/// A verdict with the port left out: port 443.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Close,
    Pass,
    Undecided,
}

/// Those of which every part can be tried.
static SMALL_HELLOS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    rows().into_iter().filter(|row| row.is_hello && row.bytes.len() < 2_000).collect()
});

pub(crate) fn rows() -> Vec<Row> {
    let lines = include_str!("../corpus/tls_sni.jsonl").lines();
    lines.map(|line| Row::read(&serde_json::from_str(line).unwrap())).collect()
}

impl Row {
    fn read(row: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let id = text(&row["id"]);
        let connect_host = text(&row["connect_host"]);
        let (host, port) = connect_host.split(' ').next().unwrap().rsplit_once(':').unwrap();
        let bytes = base64(&text(&row["bytes_b64"]));
        let segments = match row["segments"].as_array() {
            Some(segments) => segments
                .iter()
                .map(|segment| {
                    let delay = segment["delay_ms"].as_u64().unwrap();
                    (Duration::from_millis(delay), base64(&text(&segment["b64"])))
                })
                .collect(),
            None => vec![(Duration::ZERO, bytes.clone())],
        };
        let expected = text(&row["expect"]["verify"]);
        let closed = STRICTER.contains(&id.as_str());
        if closed {
            let also = row["also_ok"].as_array().unwrap();
            assert!(also.iter().any(|verdict| verdict == "close"), "{id}");
        }
        let is_hello = !matches!(row["class"].as_str(), Some("not_tls" | "sslv2"));
        Self {
            passes: expected == "pass" && !closed,
            connect: row["mode"] == "connect",
            host: host.to_owned(),
            port: port.parse().unwrap(),
            id,
            bytes,
            segments,
            is_hello,
        }
    }

    pub(crate) fn is_literal(&self) -> bool {
        matches!(Host::parse(self.host.as_bytes()), Ok(Host::Ip(_)))
    }

    /// What the parser alone says to the first bytes, and to those after them.
    fn verdict(&self, bytes: &[u8]) -> Verdict {
        let host = Authority::parse_connect(format!("{}:{}", self.host, self.port).as_bytes());
        let host = host.unwrap().host;
        match beginning_of(bytes) {
            Beginning::Tls => {}
            Beginning::Undecided => return Verdict::Undecided,
            Beginning::Other | Beginning::Sslv2Hello => return Verdict::Close,
        }
        let (hello, mut rest) = match HelloReader::default().read(bytes) {
            Ok(Some(whole)) => (whole.hello, &bytes[whole.end..]),
            Ok(None) => return Verdict::Undecided,
            Err(_) => return Verdict::Close,
        };
        let fits = match (&hello.server_name, &host) {
            (Some(name), Host::Name(host)) => name == host,
            (None, Host::Ip(_)) => true,
            // The policy is asked, and in the corpus it says no.
            (Some(_), Host::Ip(_)) | (None, Host::Name(_)) => false,
        };
        if !fits {
            return Verdict::Close;
        }
        if !hello.may_repeat {
            return Verdict::Pass;
        }
        let mut following = Following::new(hello.early_data);
        loop {
            match following.look(rest) {
                Next::Skip(length) => rest = &rest[length..],
                Next::More | Next::Nothing => return Verdict::Pass,
                Next::Hello => {
                    return match HelloReader::default().read(rest) {
                        Ok(Some(again)) if again.hello.server_name == hello.server_name => {
                            Verdict::Pass
                        }
                        Ok(Some(_)) | Err(_) => Verdict::Close,
                        Ok(None) => Verdict::Undecided,
                    };
                }
            }
        }
    }
}

/// Rows of both modes: `transparent` ones name a literal destination, to which the hello must not
/// name a host that the policy refuses; the absent name among them is a matter of the way in.
#[test]
fn the_parser_on_every_row() {
    let rows = rows();
    for row in &rows {
        let verdict = row.verdict(&row.bytes);
        if row.id == "TS-158" {
            // In a tunnel to an address it may be absent: the address was asked for by itself.
            assert_eq!(verdict, Verdict::Pass);
            continue;
        }
        // What stops half way is closed when its time is up.
        let passes = verdict == Verdict::Pass;
        assert_eq!(passes, row.passes, "{} {verdict:?}", row.id);
    }
    assert!(rows.len() >= 80, "{}", rows.len());
}

/// However a hello is cut, the verdict is the same, and no part of it has another.
#[test]
fn the_parser_on_every_piece() {
    for row in SMALL_HELLOS.iter() {
        let whole = HelloReader::default().read(&row.bytes);
        for cut in 0..row.bytes.len() {
            let mut reader = HelloReader::default();
            match reader.read(&row.bytes[..cut]) {
                Ok(None) => assert_eq!(reader.read(&row.bytes), whole, "{} {cut}", row.id),
                early => assert_eq!(early, whole, "{} {cut}", row.id),
            }
            if row.verdict(&row.bytes[..cut]) == Verdict::Pass {
                let first_end = whole.as_ref().unwrap().as_ref().unwrap().end;
                assert!(cut >= first_end, "{} {cut}", row.id);
            }
        }
        let mut byte_by_byte = HelloReader::default();
        let mut last = Ok(None);
        for end in 1..=row.bytes.len() {
            last = byte_by_byte.read(&row.bytes[..end]);
            if !matches!(last, Ok(None)) {
                break;
            }
        }
        assert_eq!(last, whole, "{}", row.id);
    }
}

proptest! {
    #![proptest_config(Config { cases: 20_000, failure_persistence: None, ..Config::default() })]

    /// What is taken for a hello has the name that another TLS library reads in it, if that takes
    /// it for one too.
    #[test]
    fn another_library_reads_the_same_name(
        row in any::<Index>(),
        edits in vec((any::<Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = SMALL_HELLOS[row.index(SMALL_HELLOS.len())].bytes.clone();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let Ok(Some(ours)) = HelloReader::default().read(&bytes) else { return Ok(()) };
        let Some(theirs) = name_read_by_rustls(&bytes[..ours.end]) else { return Ok(()) };
        let ours = ours.hello.server_name.map(|name| name.as_str().to_owned());
        prop_assert_eq!(ours, theirs.map(|name| name.to_ascii_lowercase()));
    }
}

#[test]
fn another_library_reads_most_rows() {
    let both = |row: &&Row| {
        let ours = HelloReader::default().read(&row.bytes);
        matches!(ours, Ok(Some(whole)) if name_read_by_rustls(&row.bytes[..whole.end]).is_some())
    };
    let count = rows().iter().filter(both).count();
    assert!(count > 20, "{count} rows are hellos to both");
}
