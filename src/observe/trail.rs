//! The audit of one request: its decision once, its end once, whatever happens in between.
//!
//! Dropping a trail that was let through but not ended records that the client went away, so a
//! cancelled request leaves its lines too.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Audit, Ending, Inside, Record, Refused, Subject};
use crate::policy::{Denial, Leave, Peer};

/// What has been said so far about one request.
#[derive(Debug)]
pub struct Trail {
    audit: Audit,
    /// Cancelled when the proxy ends what has not finished in time.
    abort: CancellationToken,
    subject: Arc<Subject>,
    begun: Instant,
    stage: Stage,
    peer: Option<Peer>,
    parent_status: Option<u16>,
    /// Zero until there is one.
    status: AtomicU16,
    /// Both directions are counted at once.
    sent: AtomicU64,
    received: AtomicU64,
    inside: Option<Box<Inside>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing recorded yet; the policy's answer by name is known.
    Asked(Leave),
    /// The decision is recorded, the end is not.
    Allowed(Leave),
    /// Everything is recorded.
    Done,
}

impl Trail {
    /// Begins the trail of a request that the policy lets through by name.
    #[must_use]
    pub fn begin(audit: Audit, subject: Subject, leave: Leave, abort: CancellationToken) -> Self {
        Self {
            audit,
            abort,
            subject: Arc::new(subject),
            begun: Instant::now(),
            stage: Stage::Asked(leave),
            peer: None,
            parent_status: None,
            status: AtomicU16::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            inside: None,
        }
    }

    /// Records a request that was refused at once.
    pub fn refuse(audit: &Audit, subject: Subject, refused: Refused) {
        audit.record(Record::Decision {
            at: SystemTime::now(),
            subject: Arc::new(subject),
            verdict: Err(refused),
        });
    }

    /// Records that the request is let through, before anything is dialled for it.
    pub fn allowed(&mut self) {
        if let Stage::Asked(leave) = self.stage {
            if leave == Leave::Observed {
                self.audit.counters().observed.increment();
            }
            self.decide(Ok(leave));
            self.stage = Stage::Allowed(leave);
        }
    }

    /// Records that the request was refused after all, by an address.
    pub fn refused(&mut self, denial: Denial) {
        match self.stage {
            Stage::Asked(_) => {
                self.decide(Err(denial.into()));
                self.stage = Stage::Done;
            }
            Stage::Allowed(_) => {
                self.peer = None;
                self.end(Ending::AddressRefused);
            }
            Stage::Done => {}
        }
    }

    /// Notes where its connection leads.
    pub fn reached(&mut self, peer: Peer) {
        self.peer = Some(peer);
    }

    /// Notes that a parent proxy was reached, which said no.
    pub fn refused_by_parent(&mut self, peer: Option<Peer>, status: u16) {
        self.peer = peer;
        self.parent_status = Some(status);
    }

    /// Notes the status of the origin's answer.
    pub fn answered(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// Notes what a tunnel began with.
    pub fn began_with(&mut self, inside: Inside) {
        self.inside = (inside != Inside::default()).then(|| Box::new(inside));
    }

    /// Counts payload bytes, from the client to the origin and back.
    pub fn moved(&self, sent: u64, received: u64) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.received.fetch_add(received, Ordering::Relaxed);
    }

    /// Records the end; later ends change nothing.
    pub fn end(&mut self, ending: Ending) {
        self.allowed();
        let Stage::Allowed(leave) = self.stage else { return };
        self.stage = Stage::Done;
        ending.count(&self.audit.counters().timeouts);
        self.audit.record(Record::End {
            at: SystemTime::now(),
            subject: Arc::clone(&self.subject),
            leave,
            ending,
            peer: self.peer,
            parent_status: self.parent_status,
            status: Some(*self.status.get_mut()).filter(|status| *status != 0),
            sent: *self.sent.get_mut(),
            received: *self.received.get_mut(),
            duration: self.begun.elapsed(),
            inside: self.inside.take(),
        });
    }

    fn decide(&self, verdict: Result<Leave, Refused>) {
        let subject = Arc::clone(&self.subject);
        self.audit.record(Record::Decision { at: SystemTime::now(), subject, verdict });
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.end(match self.abort.is_cancelled() {
            true => Ending::Shutdown,
            false => Ending::ClientGone,
        });
    }
}
