//! A DNS server of the test's own: scripted answers, and a record of every question.
//!
//! It speaks UDP and TCP on one port. An answer too long for UDP comes truncated, and whole over
//! TCP (RFC 7766).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::CNAME},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

/// What is known about names. Unknown ones do not exist.
#[derive(Debug, Clone, Default)]
pub(crate) struct Zone {
    /// One answer per question; the last goes on.
    names: BTreeMap<String, Vec<Round>>,
}

/// What is said about a name when it is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Round {
    /// Both families mixed.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ttl: u32,
    pub(crate) v4: Family,
    pub(crate) v6: Family,
    /// Aliases between the name and its addresses.
    pub(crate) aliases: Vec<String>,
    /// What stands in the additional section.
    pub(crate) additional: Vec<(String, IpAddr)>,
    pub(crate) garbage: Option<Garbage>,
}

/// What one address family has of its own.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Family {
    pub(crate) delay: Duration,
    pub(crate) code: Option<ResponseCode>,
}

/// Answers that are none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Garbage {
    /// A name that is compressed into itself.
    PointerLoop,
    /// More than a message can hold, cut off where it ends.
    TooLong,
}

/// A running server. Ends with the test's runtime.
#[derive(Debug, Clone)]
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Zone>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    questions: Vec<String>,
    asked: BTreeMap<String, usize>,
}

/// What fits into a datagram everywhere.
const MAX_DATAGRAM: usize = 1232;

impl Zone {
    /// A name with its addresses, both families mixed.
    pub(crate) fn name(self, name: &str, addresses: &[&str]) -> Self {
        self.rounds(name, &[addresses], 300)
    }

    /// A name whose answer changes from question to question.
    pub(crate) fn rounds(self, name: &str, rounds: &[&[&str]], ttl: u32) -> Self {
        let parse = |text: &&str| text.parse().unwrap();
        let rounds = rounds.iter().map(|round| Round {
            addresses: round.iter().map(parse).collect(),
            ttl,
            ..Round::default()
        });
        self.script(name, rounds.collect())
    }

    /// A name and everything that is said about it.
    pub(crate) fn script(mut self, name: &str, rounds: Vec<Round>) -> Self {
        self.names.insert(name.to_owned(), rounds);
        self
    }

    /// The AAAA answer of a name comes late.
    pub(crate) fn slow_v6(mut self, name: &str, delay: Duration) -> Self {
        for round in self.names.get_mut(name).unwrap() {
            round.v6.delay = delay;
        }
        self
    }

    /// Every answer for a name comes late.
    pub(crate) fn slow(mut self, name: &str, delay: Duration) -> Self {
        for round in self.names.get_mut(name).unwrap() {
            (round.v4.delay, round.v6.delay) = (delay, delay);
        }
        self
    }

    /// A name whose server fails.
    pub(crate) fn failing(self, name: &str) -> Self {
        let family = Family { code: Some(ResponseCode::ServFail), ..Family::default() };
        self.script(name, vec![Round { v4: family, v6: family, ..Round::default() }])
    }

    pub(crate) async fn serve(self) -> DnsServer {
        // One port for both; another test may have the TCP side of it.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        self.serve_on(udp, tcp)
    }

    /// On sockets of one address.
    pub(crate) fn serve_on(self, udp: UdpSocket, tcp: TcpListener) -> DnsServer {
        let udp = Arc::new(udp);
        let address = udp.local_addr().unwrap();
        let server = DnsServer { address, zone: Arc::new(self), shared: Arc::default() };
        let over_udp = server.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
                let (server, udp) = (over_udp.clone(), Arc::clone(&udp));
                tokio::spawn(async move {
                    let answer = server.answer(&question).await;
                    let answer = match answer.len() {
                        0..=MAX_DATAGRAM => answer,
                        _ => {
                            server.unask(&question);
                            truncated(&question)
                        }
                    };
                    udp.send_to(&answer, from).await.ok();
                });
            }
        });
        let over_tcp = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                tokio::spawn(over_tcp.clone().serve_tcp(stream));
            }
        });
        server
    }
}

impl DnsServer {
    /// Every name that was asked for.
    pub(crate) fn names_asked(&self) -> BTreeSet<String> {
        let shared = self.shared.lock().unwrap();
        shared.questions.iter().filter_map(|q| q.split(' ').next()).map(str::to_owned).collect()
    }

    /// How often a name was asked for, one family.
    pub(crate) fn count(&self, name: &str, family: &str) -> usize {
        let wanted = format!("{name} {family}");
        let shared = self.shared.lock().unwrap();
        shared.questions.iter().filter(|question| **question == wanted).count()
    }

    /// A question that comes again over TCP is one question.
    fn unask(&self, question: &Message) {
        let asked = asked(question);
        let mut shared = self.shared.lock().unwrap();
        let at = shared.questions.iter().rposition(|question| *question == asked).unwrap();
        shared.questions.remove(at);
        *shared.asked.get_mut(&asked).unwrap() -= 1;
    }

    async fn serve_tcp(self, mut stream: TcpStream) -> Option<()> {
        loop {
            let mut question = vec![0; stream.read_u16().await.ok()?.into()];
            stream.read_exact(&mut question).await.ok()?;
            let answer = self.answer(&Message::from_vec(&question).ok()?).await;
            let length = u16::try_from(answer.len()).unwrap();
            stream.write_u16(length).await.ok()?;
            stream.write_all(&answer).await.ok()?;
            // What does not fit is followed by the end.
            if answer.len() == usize::from(u16::MAX) {
                return None;
            }
        }
    }

    /// The answer, as late as it is to be.
    async fn answer(&self, question: &Message) -> Vec<u8> {
        let query = question.queries[0].clone();
        let wanted_v6 = query.query_type() == RecordType::AAAA;
        let mut answer = Message::response(question.id, question.op_code);
        answer.add_query(query.clone());
        let round = {
            let mut shared = self.shared.lock().unwrap();
            let asked = asked(question);
            let name = asked.split(' ').next().unwrap().to_owned();
            shared.questions.push(asked.clone());
            let count = shared.asked.entry(asked).or_default();
            *count += 1;
            let rounds = self.zone.names.get(&name);
            rounds.and_then(|rounds| rounds.get(*count - 1).or_else(|| rounds.last()).cloned())
        };
        let Some(round) = round else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            return answer.to_vec().unwrap();
        };
        let family = if wanted_v6 { round.v6 } else { round.v4 };
        tokio::time::sleep(family.delay).await;
        if let Some(code) = family.code {
            answer.metadata.response_code = code;
        } else {
            round.fill(&mut answer, &query, wanted_v6);
        }
        let bytes = answer.to_vec().unwrap();
        match round.garbage {
            None => bytes,
            Some(garbage) => garbage.spoil(bytes),
        }
    }
}

impl Round {
    fn fill(&self, answer: &mut Message, query: &Query, wanted_v6: bool) {
        let mut owner = query.name().clone();
        for alias in &self.aliases {
            let alias = Name::from_ascii(format!("{alias}.")).unwrap();
            let data = RData::CNAME(CNAME(alias.clone()));
            answer.add_answer(Record::from_rdata(owner, self.ttl, data));
            owner = alias;
        }
        for address in self.addresses.iter().filter(|address| address.is_ipv6() == wanted_v6) {
            let record = Record::from_rdata(owner.clone(), self.ttl, RData::from(*address));
            answer.add_answer(record);
        }
        for (name, address) in &self.additional {
            let name = Name::from_ascii(format!("{name}.")).unwrap();
            answer.add_additional(Record::from_rdata(name, self.ttl, RData::from(*address)));
        }
    }
}

impl Garbage {
    fn spoil(self, mut answer: Vec<u8>) -> Vec<u8> {
        // One answer more is promised.
        answer[7] += 1;
        let end = u8::try_from(answer.len()).unwrap();
        match self {
            Self::PointerLoop => answer.extend([0xc0, end]),
            Self::TooLong => {
                // The name of the question, a TXT record of IN, and more data than there is room for.
                answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 1, 44, 0xff, 0xff]);
                answer.resize(0xffff, 0);
            }
        }
        answer
    }
}

/// Name and type, as they are counted.
fn asked(question: &Message) -> String {
    let query = &question.queries[0];
    let name = query.name().to_ascii().to_lowercase();
    format!("{} {}", name.trim_end_matches('.'), query.query_type())
}

fn truncated(question: &Message) -> Vec<u8> {
    let mut answer = Message::response(question.id, question.op_code);
    answer.add_query(question.queries[0].clone());
    answer.metadata.truncation = true;
    answer.to_vec().unwrap()
}
