//! Which policy is meant: the one named, or the one that lies in the usual place.

use std::{
    io,
    path::{Component, Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

#[cfg(unix)]
use super::trust::Trust;
use super::{PRESETS, Preset, walk::walk};
use crate::{policy::Source, settings::Chosen};

/// Where Codex looks for the system's managed requirements on Unix.
pub const SYSTEM_FILE: &str = "/etc/codex/requirements.toml";

/// The documents that a policy is made of.
#[derive(Debug)]
pub struct PolicySource {
    pub(super) chosen: Place,
    /// The system file, unless it is the chosen one.
    pub(super) system: Option<SystemFile>,
    /// Whose files are taken; without it anybody's.
    #[cfg(unix)]
    pub(super) trust: Option<Trust>,
}

/// The file whose denies apply whatever was chosen, as soon as it is there.
#[derive(Debug)]
pub(super) struct SystemFile {
    pub(super) path: PathBuf,
    pub(super) source: Arc<Source>,
    /// Once it has been there, its absence is an error: its denies must not vanish unnoticed.
    pub(super) seen: AtomicBool,
}

/// Where a document is.
#[derive(Debug)]
pub(super) enum Place {
    File(PathBuf, Arc<Source>),
    Preset(Preset, Arc<Source>),
}

/// Why there is no policy to start with.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// Nothing was named and nothing lies in the usual place.
    #[error(
        "no policy: give one with --requirements FILE, --preset NAME (--preset agent is a good \
         start), EXEAT_REQUIREMENTS=FILE or EXEAT_PRESET=NAME, or put it at {0}"
    )]
    Nothing(PathBuf),
    /// The system file is there but cannot be looked at, so its denies cannot be known.
    #[error("cannot look at {0}, whose denies would apply: {1}")]
    System(PathBuf, #[source] io::Error),
    /// No preset of that name.
    #[error("no preset `{0}`; there is: {known}", known = names())]
    UnknownPreset(String),
}

impl PolicySource {
    /// Finds the documents for what was chosen. `system` is [`SYSTEM_FILE`] but for tests.
    ///
    /// # Errors
    ///
    /// When there is no policy, or it cannot be known whether the system has one.
    pub fn locate(chosen: &Chosen, system: &Path) -> Result<Self, LocateError> {
        let present =
            system.try_exists().map_err(|error| LocateError::System(system.to_owned(), error))?;
        let file = |path: &Path| {
            Place::File(path.to_owned(), Arc::new(Source::file(path.to_string_lossy())))
        };
        let chosen_document = match chosen {
            Chosen::File(path) => file(path),
            Chosen::Preset(name) => {
                let preset =
                    Preset::named(name).ok_or_else(|| LocateError::UnknownPreset(name.clone()))?;
                Place::Preset(preset, Arc::new(Source::preset(preset.name)))
            }
            Chosen::Default if present => file(system),
            Chosen::Default => return Err(LocateError::Nothing(system.to_owned())),
        };
        let same = match &chosen_document {
            Place::File(path, _) => path == system,
            Place::Preset(..) => false,
        };
        let system = (!same).then(|| SystemFile {
            path: system.to_owned(),
            source: Arc::new(Source::file(system.to_string_lossy())),
            seen: AtomicBool::new(present),
        });
        Ok(Self {
            chosen: chosen_document,
            system,
            #[cfg(unix)]
            trust: None,
        })
    }

    /// Takes no file that another unprivileged user could change. Elsewhere than on Unix this
    /// changes nothing: there is no telling.
    #[must_use]
    pub fn guarded(self) -> Self {
        Self {
            #[cfg(unix)]
            trust: Some(Trust::of_this_process()),
            ..self
        }
    }

    /// The directories, or files, in which the documents are found, also after a rename or a
    /// swapped link: all that must stay readable. Of a file that is not there, its directory if
    /// that is; nothing further up, where other people's files are: `/etc` for the system file.
    /// Never the root directory, which would be everything.
    #[must_use]
    pub fn places(&self) -> Vec<PathBuf> {
        let chosen = match &self.chosen {
            Place::File(path, _) => Some(path.as_path()),
            Place::Preset(..) => None,
        };
        let system = self.system.as_ref().map(|file| file.path.as_path());
        let mut places: Vec<_> = chosen.into_iter().chain(system).flat_map(places_of).collect();
        places.sort();
        places.dedup();
        places
    }

    /// What the chosen document is called, for the operator.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.chosen {
            Place::File(_, source) | Place::Preset(_, source) => source.path(),
        }
    }
}

fn places_of(path: &Path) -> Vec<PathBuf> {
    let Ok(steps) = walk(path) else {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let directory = path.parent().filter(|place| place.parent().is_some() && place.is_dir());
        return directory.map(Path::to_owned).into_iter().collect();
    };
    // A link to something beside or below it is swapped for another one beside or below it.
    let stays = |target: &Path| {
        target.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    };
    let links = steps.iter().filter(|step| step.target.as_deref().is_some_and(stays));
    let directories = links.chain(steps.last()).filter_map(|step| step.path.parent());
    let mut places: Vec<_> =
        directories.filter(|place| place.parent().is_some()).map(Path::to_owned).collect();
    if places.is_empty() {
        places.extend(steps.last().map(|file| file.path.clone()));
    }
    places
}

fn names() -> String {
    PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_place_comes_last() {
        let directory = tempfile::tempdir().unwrap();
        let system = directory.path().join("requirements.toml");
        let nothing = PolicySource::locate(&Chosen::Default, &system).unwrap_err().to_string();
        for way in ["--requirements", "--preset agent", "EXEAT_REQUIREMENTS", "requirements.toml"] {
            assert!(nothing.contains(way), "{nothing}");
        }
        std::fs::write(&system, "").unwrap();
        let found = PolicySource::locate(&Chosen::Default, &system).unwrap();
        assert_eq!((found.name(), found.system.is_none()), (system.to_str().unwrap(), true));
        let preset = PolicySource::locate(&Chosen::Preset("agent".into()), &system).unwrap();
        assert_eq!((preset.name(), preset.system.is_some()), ("preset:agent", true));
        assert!(PolicySource::locate(&Chosen::Preset("nope".into()), &system).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn places_follow_links_that_may_be_swapped() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let places = |path: &str| -> Vec<String> {
            let mut places = places_of(&root.join(path));
            places.sort();
            places.dedup();
            let below = |place: &PathBuf| match place.strip_prefix(&root) {
                Ok(below) => below.to_string_lossy().into_owned(),
                Err(_) => place.to_string_lossy().into_owned(),
            };
            places.iter().map(below).collect()
        };
        std::fs::create_dir_all(root.join("etc/v1")).unwrap();
        std::fs::create_dir_all(root.join("srv")).unwrap();
        std::fs::write(root.join("etc/v1/p.toml"), "").unwrap();
        assert_eq!(places("etc/v1/p.toml"), ["etc/v1"]);
        // As Kubernetes does it.
        symlink("v1", root.join("etc/data")).unwrap();
        symlink("data/p.toml", root.join("etc/p.toml")).unwrap();
        assert_eq!(places("etc/p.toml"), ["etc", "etc/v1"]);
        // A link to elsewhere is not swapped for something beside it.
        symlink(root.join("etc/v1/p.toml"), root.join("srv/p.toml")).unwrap();
        assert_eq!(places("srv/p.toml"), ["etc/v1"]);
        // One that is not there yet.
        assert_eq!(places("srv/none.toml"), ["srv"]);
        assert!(places("srv/none/p.toml").is_empty());
        assert!(places_of(Path::new("/none.toml")).is_empty());
    }
}
