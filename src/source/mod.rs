//! Where policy bytes come from: a file, a preset, and the system's own file; watched for changes.
//! Also the one way to read a file that must not be another user's, such as the settings.
//!
//! Reads and watches, and judges who could have written a file, but not what it says: what the
//! bytes mean is `policy`'s and `requirements`'.

mod locate;
mod preset;
mod snapshot;
#[cfg(unix)]
mod trust;
mod walk;
mod watch;

pub use locate::{LocateError, PolicySource, SYSTEM_FILE};
pub use preset::{PRESETS, Preset};
pub use snapshot::{FileError, ReadError, Snapshot, Text, read_guarded, read_limited};
#[cfg(unix)]
pub use trust::Distrust;
pub use watch::watch;
