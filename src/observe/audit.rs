//! The audit writer: a bounded queue, and a thread that writes whole lines.
//!
//! The invariant: traffic never waits for the audit. What does not fit into the queue, or cannot
//! be written, is counted and said so in the audit itself.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{
        mpsc::{self, error::TryRecvError},
        oneshot,
    },
    time::timeout,
};

use super::{Counters, Memory, Record};
use crate::settings::AuditTarget;

/// Where records are handed in. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Audit {
    queue: Option<mpsc::Sender<Message>>,
    memory: Option<Arc<Memory>>,
    reopen: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

/// Where records will be written, opened.
#[derive(Debug)]
pub struct AuditOutput(Option<Output>);

/// The end of the writer.
#[derive(Debug)]
pub struct AuditEnd(oneshot::Receiver<()>);

/// An audit file that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open audit file {path}: {error}")]
pub struct AuditError {
    path: PathBuf,
    #[source]
    error: io::Error,
}

#[derive(Debug)]
enum Message {
    Record(Record),
    /// Look at the flag.
    Reopen,
}

/// Lines are gathered until the queue is empty or this many bytes are there.
const BATCH_BYTES: usize = 64 << 10;

/// How long the writer lets records gather after the first: to wake it costs a request more than
/// its records do.
const GATHER: Duration = Duration::from_millis(5);

/// A queue that may be full before that gets its records written at once.
const SMALL_QUEUE: usize = 4096;

impl Audit {
    /// Takes records and writes none.
    #[must_use]
    pub fn off(counters: Arc<Counters>) -> Self {
        Self { queue: None, memory: None, reopen: Arc::default(), counters }
    }

    /// Starts the writer, if there is anything to write to. `memory` hears of each record too.
    #[must_use]
    pub fn start(
        output: AuditOutput,
        memory: Option<Arc<Memory>>,
        queue: usize,
        counters: Arc<Counters>,
    ) -> (Self, AuditEnd) {
        let (ended, end) = oneshot::channel();
        let Some(output) = output.0 else {
            return (Self { memory, ..Self::off(counters) }, AuditEnd(end));
        };
        let reopen = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel(queue);
        let writer = Writer {
            receiver,
            output,
            reopen: Arc::clone(&reopen),
            counters: Arc::clone(&counters),
            reported: 0,
            torn: false,
        };
        std::thread::spawn(move || {
            writer.run();
            drop(ended);
        });
        (Self { queue: Some(sender), memory, reopen, counters }, AuditEnd(end))
    }

    /// Hands in a record; never blocks.
    pub fn record(&self, record: Record) {
        if let Some(memory) = &self.memory {
            memory.note(&record);
        }
        if let Some(queue) = &self.queue
            && queue.try_send(Message::Record(record)).is_err()
        {
            self.counters.audit_dropped.increment();
        }
    }

    /// The counters of the proxy that it is the audit of.
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Opens the file anew, for log rotation.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        if let Some(queue) = &self.queue {
            // If the queue is full the writer is awake and will see the flag.
            queue.try_send(Message::Reopen).ok();
        }
    }
}

impl AuditOutput {
    /// Opens the target.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(target: &AuditTarget) -> Result<Self, AuditError> {
        Ok(Self(match target {
            AuditTarget::File(path) => {
                let file =
                    append(path).map_err(|error| AuditError { path: path.clone(), error })?;
                Some(Output::File(file, path.clone()))
            }
            AuditTarget::Off => None,
            AuditTarget::Stderr => Some(Output::Stderr),
            AuditTarget::Stdout => Some(Output::Stdout),
        }))
    }
}

impl AuditEnd {
    /// Waits until everything is written, once the last [`Audit`] is dropped; false if that takes
    /// longer than `patience`, as when nobody reads the other end of a pipe.
    pub async fn wait(self, patience: Duration) -> bool {
        timeout(patience, self.0).await.is_ok()
    }
}

struct Writer {
    receiver: mpsc::Receiver<Message>,
    output: Output,
    reopen: Arc<AtomicBool>,
    counters: Arc<Counters>,
    /// How many dropped records the audit itself has told of.
    reported: u64,
    /// The last write failed, and may have left half a line.
    torn: bool,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::new();
        let gather = self.receiver.max_capacity() >= SMALL_QUEUE;
        while let Some(message) = self.receiver.blocking_recv() {
            if gather {
                std::thread::sleep(GATHER);
            }
            let mut records = 0;
            let mut next = Some(message);
            while let Some(message) = next {
                if let Message::Record(record) = message {
                    record.write(&mut batch);
                    records += 1;
                }
                next = match self.receiver.try_recv() {
                    Ok(message) if batch.len() < BATCH_BYTES => Some(message),
                    Ok(message) => {
                        self.write(&mut batch, records);
                        records = 0;
                        Some(message)
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
                };
            }
            self.write(&mut batch, records);
        }
    }

    fn write(&mut self, batch: &mut Vec<u8>, records: u64) {
        if self.reopen.swap(false, Ordering::AcqRel) {
            self.output.reopen();
            self.torn = false;
        }
        let total = self.counters.audit_dropped.get();
        if total > self.reported {
            Record::Dropped { at: SystemTime::now(), total }.write(batch);
            self.reported = total;
        }
        if batch.is_empty() {
            return;
        }
        if self.torn {
            batch.insert(0, b'\n');
        }
        self.torn = self.output.write(batch).is_err();
        if self.torn {
            self.counters.audit_dropped.add(records);
        }
        batch.clear();
    }
}

#[derive(Debug)]
enum Output {
    File(File, PathBuf),
    Stderr,
    Stdout,
}

impl Output {
    fn reopen(&mut self) {
        let Self::File(file, path) = self else { return };
        match append(path) {
            Ok(new) => *file = new,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot reopen the audit file");
            }
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        match self {
            Self::File(file, _) => file.write_all(lines),
            Self::Stderr => io::stderr().lock().write_all(lines),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines)?;
                stdout.flush()
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
