//! What a proxy is, how to find it and how to start it: one entry of `peers.toml`.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use serde::Deserialize;

use super::measure::{Ability, Measure};

/// An entry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) about: String,
    pub(crate) programs: Vec<String>,
    #[serde(default)]
    pub(crate) version: Vec<String>,
    #[serde(default)]
    pub(crate) start: Vec<String>,
    #[serde(default)]
    pub(crate) can: Vec<Ability>,
    pub(crate) host: Option<String>,
    pub(crate) rules: Option<u32>,
    /// None: all that it can.
    pub(crate) measures: Option<Vec<Measure>>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    #[serde(default, rename = "file")]
    pub(crate) files: Vec<Template>,
    /// What is not said here is as with that earlier entry.
    like: Option<String>,
}

/// A file that a proxy wants to read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    pub(crate) name: String,
    #[serde(default)]
    each: String,
    text: String,
}

/// A list of them, as files have it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    proxy: Vec<Description>,
}

/// Those that come with this program.
const OWN: &str = include_str!("peers.toml");

/// All descriptions: our own, then those of further files.
pub(crate) fn read_all(more: &[PathBuf]) -> io::Result<Vec<Description>> {
    let mut texts = vec![("peers.toml".to_owned(), OWN.to_owned())];
    for path in more {
        texts.push((path.display().to_string(), fs::read_to_string(path)?));
    }
    let mut all: Vec<Description> = Vec::new();
    for (name, text) in texts {
        let listed: Listed =
            toml::from_str(&text).map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        for description in listed.proxy {
            let whole = description.whole(&all)?;
            all.push(whole);
        }
    }
    Ok(all)
}

impl Description {
    /// What origins are called for it.
    pub(crate) fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("localhost")
    }

    /// Whether that is measured of it.
    pub(crate) fn takes(&self, measure: Measure) -> bool {
        let wanted = self.measures.as_ref().is_none_or(|measures| measures.contains(&measure));
        wanted && measure.needs().is_none_or(|ability| self.can.contains(&ability))
    }

    fn whole(self, earlier: &[Self]) -> io::Result<Self> {
        let Some(name) = &self.like else { return Ok(self) };
        let model = earlier.iter().find(|other| other.name == *name).ok_or_else(|| {
            io::Error::other(format!("{}: like {name}, which does not come before", self.name))
        })?;
        let or = |own: Vec<String>, other: &Vec<String>| {
            if own.is_empty() { other.clone() } else { own }
        };
        Ok(Self {
            about: if self.about.is_empty() { model.about.clone() } else { self.about },
            version: or(self.version, &model.version),
            start: or(self.start, &model.start),
            can: if self.can.is_empty() { model.can.clone() } else { self.can },
            host: self.host.or_else(|| model.host.clone()),
            environment: model.environment.clone(),
            files: if self.files.is_empty() { model.files.clone() } else { self.files },
            ..self
        })
    }
}

impl Template {
    /// The text of the file, for a proxy that allows these names.
    pub(crate) fn fill(&self, fill: &Fill<'_>, names: &[String]) -> String {
        let rules: String = if self.text.contains("{rules}") {
            let each = |name: &String| {
                self.each.replace("{regex}", &name.replace('.', r"\.")).replace("{name}", name)
            };
            names.iter().map(each).collect()
        } else {
            String::new()
        };
        fill.text(&self.text).replace("{rules}", &rules)
    }
}

/// What stands for the words in braces.
#[derive(Debug)]
pub(crate) struct Fill<'a> {
    pub(crate) dir: &'a str,
    pub(crate) port: u16,
    pub(crate) dns: u16,
    pub(crate) host: &'a str,
}

impl Fill<'_> {
    /// A text with them in their places.
    pub(crate) fn text(&self, text: &str) -> String {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        text.replace("{dir}", self.dir)
            .replace("{port}", &self.port.to_string())
            .replace("{dns}", &self.dns.to_string())
            .replace("{host}", self.host)
            .replace("{cores}", &cores.to_string())
            .replace("{project}", env!("CARGO_MANIFEST_DIR"))
    }
}
