//! Where policy bytes come from: a file, a preset, and the system's own file; watched for changes.
//!
//! Reads and watches, but does not judge: what the bytes mean is `policy`'s and `requirements`'.

mod locate;
mod preset;
mod snapshot;
mod watch;

pub use locate::{LocateError, PolicySource, SYSTEM_FILE};
pub use preset::{PRESETS, Preset};
pub use snapshot::{ReadError, Snapshot, Text, read_limited};
pub use watch::watch;
