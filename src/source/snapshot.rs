//! The bytes of all documents at one moment.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

#[cfg(unix)]
use super::{Distrust, trust::Trust};
use super::{
    PolicySource,
    locate::{Place, SystemFile},
};
use crate::{
    policy::{MAX_BYTES, Source},
    requirements::Layer,
    settings::Permissions,
};

/// What every document of a source said when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The chosen document.
    pub chosen: Text,
    /// The system file, if it is a second one.
    pub system: Option<Text>,
}

/// The bytes of a document and where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// As read; not yet checked in any way.
    pub bytes: Vec<u8>,
    /// Where they come from.
    pub source: Arc<Source>,
}

/// A document that cannot be read, or must not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system file has come, and this process may not read it: its denies cannot be known.
    #[error(
        "cannot read {}, which was not there at the start and whose denies apply: {error}",
        .file.path()
    )]
    Closed {
        /// Its path.
        file: Arc<Source>,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// Others could have written it.
    #[cfg(unix)]
    #[error("policy {0} is not taken: {1}")]
    Distrusted(PathBuf, #[source] Distrust),
    /// It cannot be read.
    #[error("cannot read policy {0}: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
}

impl ReadError {
    /// The system forbids it, by the rights of the user or by what the process has given up.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        match self {
            #[cfg(unix)]
            Self::Distrusted(..) => false,
            Self::Closed { error, .. } | Self::Unreadable(_, error) => {
                error.kind() == io::ErrorKind::PermissionDenied
            }
        }
    }
}

/// A file that cannot be read, or must not be taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Others could have written it.
    #[cfg(unix)]
    #[error(transparent)]
    Distrusted(#[from] Distrust),
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
}

/// Enough of a file's metadata to tell that it is another one, or was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<(Identity, u64, Option<SystemTime>)>>);

#[cfg(unix)]
type Identity = (u64, u64, i64, i64);
#[cfg(not(unix))]
type Identity = ();

impl PolicySource {
    /// Reads every document. Blocks.
    ///
    /// # Errors
    ///
    /// The first document that cannot be read. A system file that has gone since the start is an
    /// error too: its denies must not vanish unnoticed. That of one that has come and must not be
    /// read is [`ReadError::Closed`].
    pub fn read(&self) -> Result<Snapshot, ReadError> {
        let chosen = match &self.chosen {
            Place::File(path, source) => self.read_text(path, source)?,
            Place::Preset(preset, source) => {
                Text { bytes: preset.text.into(), source: Arc::clone(source) }
            }
        };
        let system = match &self.system {
            Some(file) => self.read_system(file)?,
            None => None,
        };
        Ok(Snapshot { chosen, system })
    }

    /// Looks at the documents without reading them. Blocks. Symbolic links are followed, so that
    /// a swapped link is a change.
    pub(super) fn stamp(&self) -> Stamp {
        let chosen = match &self.chosen {
            Place::File(path, _) => Some(path.as_path()),
            Place::Preset(..) => None,
        };
        let system = self.system.as_ref().map(|file| file.path.as_path());
        Stamp(chosen.into_iter().chain(system).map(stamp_of).collect())
    }

    /// None as long as the file has never been there.
    fn read_system(&self, file: &SystemFile) -> Result<Option<Text>, ReadError> {
        let never_seen = !file.seen.load(Ordering::Relaxed);
        let never = |error: &io::Error, kind| never_seen && error.kind() == kind;
        match self.read_text(&file.path, &file.source) {
            Ok(text) => {
                file.seen.store(true, Ordering::Relaxed);
                Ok(Some(text))
            }
            Err(ReadError::Unreadable(_, error)) if never(&error, io::ErrorKind::NotFound) => {
                Ok(None)
            }
            Err(ReadError::Unreadable(_, error))
                if never(&error, io::ErrorKind::PermissionDenied) =>
            {
                Err(ReadError::Closed { file: Arc::clone(&file.source), error })
            }
            Err(error) => Err(error),
        }
    }

    fn read_text(&self, path: &Path, source: &Arc<Source>) -> Result<Text, ReadError> {
        let unreadable = |error| ReadError::Unreadable(path.to_owned(), error);
        regular(path).map_err(unreadable)?;
        let file = File::open(path).map_err(unreadable)?;
        #[cfg(unix)]
        if let Some(trust) = &self.trust {
            trust
                .check(path, &file.metadata().map_err(unreadable)?)
                .map_err(|distrust| ReadError::Distrusted(path.to_owned(), distrust))?;
        }
        let bytes = limited(file).map_err(unreadable)?;
        Ok(Text { bytes, source: Arc::clone(source) })
    }
}

impl Snapshot {
    /// The chosen document as a layer.
    #[must_use]
    pub fn chosen_layer(&self) -> Layer<'_> {
        self.chosen.layer()
    }

    /// The system file as a layer, if there is one.
    #[must_use]
    pub fn system_layer(&self) -> Option<Layer<'_>> {
        self.system.as_ref().map(Text::layer)
    }
}

impl Text {
    fn layer(&self) -> Layer<'_> {
        Layer { bytes: &self.bytes, source: &self.source }
    }
}

/// Reads a policy file, one byte further than the largest that is accepted at most, so that
/// `policy` sees it is too large.
///
/// # Errors
///
/// Whatever opening and reading it gives.
pub fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    limited(File::open(path)?)
}

/// The same of a file that decides what may leave, if it is one that is taken.
///
/// # Errors
///
/// Whatever opening and reading it gives; and, if that is checked, that it is no regular file, or
/// that another unprivileged user could change it.
pub fn read_guarded(path: &Path, permissions: Permissions) -> Result<Vec<u8>, FileError> {
    match permissions {
        Permissions::Insecure => Ok(read_limited(path)?),
        Permissions::Checked => {
            regular(path)?;
            let file = File::open(path)?;
            #[cfg(unix)]
            Trust::of_this_process().check(path, &file.metadata()?)?;
            Ok(limited(file)?)
        }
    }
}

fn limited(file: File) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A pipe or a device could hold up a reload for ever.
fn regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path)?.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

fn stamp_of(path: &Path) -> Option<(Identity, u64, Option<SystemTime>)> {
    let metadata = fs::metadata(path).ok()?;
    Some((identity(&metadata), metadata.len(), metadata.modified().ok()))
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> Identity {}
