//! A DNS server of the test's own: scripted answers, and a record of every question.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use tokio::net::UdpSocket;

/// What is known about names. Unknown ones do not exist.
#[derive(Debug, Clone, Default)]
pub(crate) struct Zone {
    names: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    /// One set of addresses per question; the last goes on.
    rounds: Vec<Vec<IpAddr>>,
    ttl: u32,
    v4_delay: Duration,
    v6_delay: Duration,
    code: Option<ResponseCode>,
}

/// A running server. Ends with the test's runtime.
#[derive(Debug, Clone)]
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    questions: Arc<Mutex<Vec<String>>>,
}

impl Zone {
    /// A name with its addresses, both families mixed.
    pub(crate) fn name(self, name: &str, addresses: &[&str]) -> Self {
        self.rounds(name, &[addresses], 300)
    }

    /// A name whose answer changes from question to question.
    pub(crate) fn rounds(mut self, name: &str, rounds: &[&[&str]], ttl: u32) -> Self {
        let parse = |text: &&str| text.parse().unwrap();
        let rounds = rounds.iter().map(|round| round.iter().map(parse).collect()).collect();
        self.names.insert(name.to_owned(), Entry { rounds, ttl, ..Entry::default() });
        self
    }

    /// The AAAA answer of a name comes late.
    pub(crate) fn slow_v6(mut self, name: &str, delay: Duration) -> Self {
        self.names.get_mut(name).unwrap().v6_delay = delay;
        self
    }

    /// Every answer for a name comes late.
    pub(crate) fn slow(mut self, name: &str, delay: Duration) -> Self {
        let entry = self.names.get_mut(name).unwrap();
        (entry.v4_delay, entry.v6_delay) = (delay, delay);
        self
    }

    /// A name whose server fails.
    pub(crate) fn failing(mut self, name: &str) -> Self {
        let entry = Entry { code: Some(ResponseCode::ServFail), ..Entry::default() };
        self.names.insert(name.to_owned(), entry);
        self
    }

    pub(crate) async fn serve(self) -> DnsServer {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let questions = Arc::new(Mutex::new(Vec::new()));
        let server = DnsServer { address, questions: Arc::clone(&questions) };
        let zone = Arc::new(self);
        tokio::spawn(async move {
            let asked: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
            let mut buffer = vec![0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
                let query = question.queries[0].clone();
                let name = query.name().to_ascii().to_lowercase();
                let name = name.trim_end_matches('.').to_owned();
                questions.lock().unwrap().push(format!("{name} {}", query.query_type()));
                let round = {
                    let mut asked = asked.lock().unwrap();
                    let key = format!("{name} {}", query.query_type());
                    let count = asked.entry(key).or_default();
                    *count += 1;
                    *count - 1
                };
                let (zone, socket) = (Arc::clone(&zone), Arc::clone(&socket));
                tokio::spawn(async move {
                    let (answer, delay) = zone.answer(&question, &name, round);
                    tokio::time::sleep(delay).await;
                    socket.send_to(&answer.to_vec().unwrap(), from).await.ok();
                });
            }
        });
        server
    }

    fn answer(&self, question: &Message, name: &str, round: usize) -> (Message, Duration) {
        let query = question.queries[0].clone();
        let mut answer = Message::response(question.id, question.op_code);
        answer.add_query(query.clone());
        let Some(entry) = self.names.get(name) else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            return (answer, Duration::ZERO);
        };
        if let Some(code) = entry.code {
            answer.metadata.response_code = code;
            return (answer, Duration::ZERO);
        }
        let wanted_v6 = query.query_type() == RecordType::AAAA;
        let round =
            entry.rounds.get(round).or_else(|| entry.rounds.last()).cloned().unwrap_or_default();
        for address in round.into_iter().filter(|address| address.is_ipv6() == wanted_v6) {
            let record = Record::from_rdata(query.name().clone(), entry.ttl, RData::from(address));
            answer.add_answer(record);
        }
        (answer, if wanted_v6 { entry.v6_delay } else { entry.v4_delay })
    }
}

impl DnsServer {
    /// Every name that was asked for.
    pub(crate) fn names_asked(&self) -> BTreeSet<String> {
        let questions = self.questions.lock().unwrap();
        questions.iter().filter_map(|q| q.split(' ').next()).map(str::to_owned).collect()
    }

    /// How often a name was asked for, one family.
    pub(crate) fn count(&self, name: &str, family: &str) -> usize {
        let wanted = format!("{name} {family}");
        self.questions.lock().unwrap().iter().filter(|question| **question == wanted).count()
    }
}
