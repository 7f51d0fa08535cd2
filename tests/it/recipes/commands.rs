//! What the recipes say of the command line: every subcommand, flag and variable is one of ours.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{EXEAT, ROOT};

/// What compose and Kubernetes set by themselves, and what the recipes' own scripts read.
const OTHERS: &[&str] =
    &["EXEAT_SERVICE_HOST", "EXEAT_SERVICE_PORT", "EXEAT_PORT", "EXEAT_START_LOG"];

fn files(below: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn recipes() -> Vec<(String, String)> {
    let config = Path::new(ROOT).join("config");
    let folders = fs::read_dir(&config).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| path.is_dir() && !path.ends_with("presets"));
    let read = |path: PathBuf| (path.display().to_string(), fs::read_to_string(&path).unwrap());
    folders.flat_map(|folder| files(&folder)).map(read).collect()
}

fn help(subcommand: &str) -> Option<String> {
    let output = Command::new(EXEAT).args([subcommand, "--help"]).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Words of a line, without what quotes, lists and shells put around them.
fn words(line: &str) -> Vec<&str> {
    let around = |c: char| "\"'`,()[]{}<>$".contains(c) || c.is_whitespace();
    line.split(around).filter(|word| !word.is_empty()).collect()
}

#[test]
fn flags_are_those_of_their_subcommands() {
    let mut seen = BTreeSet::new();
    for (path, text) in recipes() {
        for line in text.lines() {
            let words = words(line);
            let is_program =
                |word: &str| word == "EXEAT" || word == "exeat" || word.ends_with("/exeat");
            for (at, pair) in words.windows(2).enumerate() {
                let [program, subcommand] = pair else { panic!() };
                if !is_program(program) {
                    continue;
                }
                let Some(help) = help(subcommand) else { continue };
                seen.insert((*subcommand).to_owned());
                let flags =
                    words[at + 2..].iter().take_while(|word| **word != "--" && **word != "|");
                for flag in flags.filter(|word| word.starts_with("--")) {
                    assert!(help.contains(*flag), "{path}: {flag} of {subcommand} in {line}");
                }
            }
        }
    }
    let expected = ["doctor", "env", "health", "preset", "run", "serve", "suggest"];
    assert!(expected.iter().all(|subcommand| seen.contains(*subcommand)), "{seen:?}");
}

#[test]
fn variables_are_read() {
    let known: String = ["serve", "check", "health"].iter().filter_map(|name| help(name)).collect();
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    for (path, text) in recipes() {
        let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
        for word in text.split(|c: char| !is_name(c)).filter(|word| word.starts_with("EXEAT_")) {
            let is_ours = known.contains(word) && readme.contains(word);
            assert!(is_ours || OTHERS.contains(&word), "{path}: {word}");
        }
    }
}
