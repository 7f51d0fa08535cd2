//! A proxy that was found on this machine, with its version.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::description::Description;

/// A description whose program is there.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    pub(crate) description: Description,
    /// The program and its leading arguments.
    pub(crate) command: Vec<String>,
    pub(crate) version: String,
}

/// What it took to say a version; an interpreter on a busy machine takes seconds.
const VERSION_WITHIN: Duration = Duration::from_secs(20);

/// Where servers are installed, beside `PATH`.
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin";

impl Installed {
    /// Looks for its programs. None: not on this machine.
    pub(crate) fn find(description: Description) -> Option<Self> {
        let found = description.programs.iter().find_map(|program| {
            let itself = std::env::current_exe().ok()?;
            let program = program
                .replace("{exeat}", env!("CARGO_BIN_EXE_exeat"))
                .replace("{self}", itself.to_str()?);
            let mut command: Vec<String> = program.split(' ').map(str::to_owned).collect();
            let path = in_path(command.first()?)?;
            *command.first_mut()? = path.to_str()?.to_owned();
            let version = version(&command, &description.version)?;
            Some((command, version))
        });
        let (command, version) = found?;
        Some(Self { description, command, version })
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into());
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":" + SBIN;
    path.split(':').map(|directory| Path::new(directory).join(program)).find(|path| path.is_file())
}

/// What it says of itself. None if it fails; empty if it was not to be asked.
fn version(command: &[String], arguments: &[String]) -> Option<String> {
    if arguments.is_empty() {
        return Some(String::new());
    }
    let mut child = Command::new(command.first()?)
        .args(command.get(1..)?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begun = Instant::now();
    // A version fits into the pipe: it need not be read before the end.
    let ended = loop {
        match child.try_wait().ok()? {
            Some(status) => break status.success(),
            None if begun.elapsed() > VERSION_WITHIN => {
                child.kill().ok();
                child.wait().ok();
                break false;
            }
            None => sleep(Duration::from_millis(5)),
        }
    };
    let mut text = String::new();
    child.stdout.take()?.read_to_string(&mut text).ok()?;
    let line = text.lines().find(|line| line.bytes().any(|byte| byte.is_ascii_digit()))?;
    ended.then(|| line.trim().trim_start_matches("Squid Cache: ").to_owned())
}
