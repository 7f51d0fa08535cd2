//! `exeat generate`: what packages ship beside the program, and that it knows every command.

use std::process::{Command, Output};

use crate::support::skip;

fn exeat(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_exeat")).args(arguments).output().unwrap()
}

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = String::from_utf8(exeat(&["--help"]).stdout).unwrap();
    let (_, rest) = help.split_once("Commands:\n").unwrap();
    let (listed, _) = rest.split_once("\n\n").unwrap();
    // Descriptions that do not fit go on further to the right.
    let names = listed.lines().filter_map(|line| line.strip_prefix("  "));
    let names = names.filter(|line| !line.starts_with(' '));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn every_command_is_completed() {
    let commands = commands();
    assert!(commands.len() > 8 && commands.iter().any(|name| name == "diff"), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = exeat(&["generate", "completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        let script = String::from_utf8(output.stdout).unwrap();
        for name in &commands {
            assert!(script.contains(name.as_str()), "{name} in {shell}");
        }
        assert!(script.contains("observe"), "{shell}");
    }
    assert_eq!(exeat(&["generate", "completions", "nonsense"]).status.code(), Some(64));
}

#[test]
fn bash_reads_its_completions() {
    let script = exeat(&["generate", "completions", "bash"]).stdout;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("exeat.bash");
    std::fs::write(&path, script).unwrap();
    // What the shell would offer behind `exeat dif`.
    let ask = "source \"$0\"; COMP_WORDS=(exeat dif); COMP_CWORD=1; _exeat exeat dif exeat; \
               echo \"${COMPREPLY[@]}\"";
    match Command::new("bash").args(["-c", ask]).arg(&path).output() {
        Ok(output) => assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "diff"),
        Err(error) => skip(&format!("no bash ({error})")),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_said() {
    for arguments in [&["generate", "completions", "bash"][..], &["preset", "agent"], &["env"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exeat"));
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command.args(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(69), "{arguments:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("No space"), "{arguments:?}");
    }
}

#[test]
fn every_command_has_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(exeat(&["generate", "man", path]).status.code(), Some(0));
    for name in commands().iter().filter(|name| *name != "help") {
        let page =
            std::fs::read_to_string(directory.path().join(format!("exeat-{name}.1"))).unwrap();
        assert!(page.contains(".TH") && page.contains("SYNOPSIS"), "{name}: {page}");
    }
    let page = std::fs::read_to_string(directory.path().join("exeat.1")).unwrap();
    assert!(page.contains("egress policy proxy"), "{page}");
    assert_eq!(exeat(&["generate", "man", "/nonexistent"]).status.code(), Some(69));
}
