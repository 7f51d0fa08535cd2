//! `exeat import`: what other programs let out, as a requirements.toml that means the same, and
//! everything in which it does not.
//!
//! A format has a file each, from text to a [`Draft`]. The invariant: nothing is left out in
//! silence.

mod draft;
mod gh_aw;
mod hosts;
mod init_firewall;
mod squid;
mod srt;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};

use self::draft::Draft;
use super::{Exit, complain, policy::show, print, say};
use crate::{
    app::random_seed,
    policy::{MAX_BYTES, Outcome, Review, Source},
};

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct Import {
    /// What wrote the file
    #[arg(long, value_enum, value_name = "FORMAT")]
    from: Format,
    /// The file; `-` reads stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

const NOTES: &str = "Prints a requirements.toml. What means something else here, or has no \
    translation, is listed on stderr and stands in the result as comments.\n\n\
    Exit codes: 0 done, 1 an entry that refuses hosts has no translation, 78 the file is not what it \
    was said to be";

/// The programs whose files are read.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Settings of Anthropic's sandbox runtime, or of Claude Code (JSON)
    Srt,
    /// squid.conf, or a list of dstdomain values
    Squid,
    /// GitHub Agentic Workflows: a workflow, a configuration of its firewall, or a list of domains
    GhAw,
    /// The init-firewall.sh of development containers
    InitFirewall,
    /// A hosts file that blocks names, or a list of names to block
    Hosts,
}

/// A file that is not what it was said to be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotRead(String);

impl Import {
    pub(super) fn run(self) -> Exit {
        let path = self.file.display();
        let text = match read(&self.file) {
            Ok(text) => text,
            Err(error) => return complain(&format!("cannot read {path}: {error}"), Exit::Config),
        };
        let mut draft = Draft::default();
        let read = match self.from {
            Format::Srt => srt::read(&text, &mut draft),
            Format::Squid => squid::read(&text, &mut draft),
            Format::GhAw => gh_aw::read(&text, &mut draft),
            Format::InitFirewall => init_firewall::read(&text, &mut draft),
            Format::Hosts => hosts::read(&text, &mut draft),
        };
        if let Err(error) = read {
            return complain(&format!("cannot translate {path}: {error}"), Exit::Config);
        }
        let policy = draft.to_toml(&path.to_string());
        for remark in draft.remarks() {
            say(&format!("{path}:{remark}"));
        }
        let source = Arc::new(Source::file("the translation"));
        let review = Review::of(policy.as_bytes(), &source, random_seed());
        if !matches!(review.outcome, Outcome::Ruleset(_)) {
            show(&review.problems, &policy, source.path());
            return complain(&"the translation is no policy", Exit::Software);
        }
        print(policy, if draft.is_wider() { Exit::No } else { Exit::Success })
    }
}

fn read(path: &Path) -> io::Result<String> {
    let bytes = match path.as_os_str() == "-" {
        true => read_limited(io::stdin().lock())?,
        false => read_limited(File::open(path)?)?,
    };
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// All of it: of a file that is cut off, the last denies would be missing.
fn read_limited(input: impl Read) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    input.take(limit).read_to_end(&mut bytes)?;
    match bytes.len() > MAX_BYTES {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, TOO_LARGE)),
        false => Ok(bytes),
    }
}

/// [`MAX_BYTES`] in words.
const TOO_LARGE: &str = "it is larger than 64 MiB";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::policy::{List, Ruleset};

    /// A translation, and the policy that it is.
    pub(super) fn translated(
        read: fn(&str, &mut Draft) -> Result<(), NotRead>,
        text: &str,
    ) -> (Draft, String) {
        let mut draft = Draft::default();
        read(text, &mut draft).unwrap();
        let policy = draft.to_toml("f");
        ruleset(&policy);
        (draft, policy)
    }

    /// The rules of a policy: `+` allows, `-` denies.
    pub(super) fn lists(policy: &str) -> Vec<String> {
        let sign = |list| match list {
            List::Allow => '+',
            List::Deny => '-',
        };
        let ruleset = ruleset(policy);
        ruleset
            .rules()
            .iter()
            .map(|(_, rule)| format!("{}{}", sign(rule.list), rule.pattern))
            .collect()
    }

    proptest! {
        /// Whatever stands in a file, what comes of it is a policy.
        #[test]
        fn every_translation_is_a_policy(pieces in vec(select(PIECES), 0..30)) {
            let text = pieces.concat();
            for read in [srt::read, squid::read, gh_aw::read, init_firewall::read, hosts::read] {
                let mut draft = Draft::default();
                if read(&text, &mut draft).is_ok() {
                    ruleset(&draft.to_toml(&text));
                }
            }
        }
    }

    const PIECES: &[&str] = &[
        "\n",
        "\n",
        "\n",
        " ",
        ",",
        "a.test",
        ".a.test",
        "*.a.test",
        "*",
        "**",
        "b*.test",
        "\u{fc}.test",
        "10.0.0.1",
        "10.*",
        "[::1]:80",
        "fe80::1%x",
        ":443",
        "0.0.0.0 ",
        "acl a dstdomain ",
        "acl b src ",
        "http_access allow ",
        "http_access deny ",
        "!a",
        "all",
        "a",
        "network:",
        "allowed:",
        "  - ",
        "blocked: [",
        "https://",
        "\"",
        "'",
        "\\",
        "#",
        "\r",
        "\u{1b}[0m",
        "for x in ",
        "X=(",
        ")",
        "; do",
        "ipset add s ",
        "{\"network\": {\"allowedDomains\": [\"",
        "\"], \"deniedDomains\": [\"",
        "\"]}}",
        "{\"allowDomains\": [\"",
    ];

    fn ruleset(policy: &str) -> Ruleset {
        let review = Review::of(policy.as_bytes(), &Arc::new(Source::file("r.toml")), 7);
        let Outcome::Ruleset(ruleset) = review.outcome else { panic!("{:?}", review.problems) };
        *ruleset
    }
}
