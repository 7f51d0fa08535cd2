//! What is open when `exeat run` starts, and would be inherited by the program: sockets and
//! directories of before lead out of a jail, and so may what nobody has thought of.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use rustix::fs::makedev;

use super::Fault;

/// The standard streams are meant for the program.
const STREAMS: &[&str] = &["0", "1", "2"];

/// Sees that nothing is open that leads out.
pub(super) fn check() -> Result<(), Fault> {
    let own = format!("/proc/{}/fd", std::process::id());
    for entry in fs::read_dir("/proc/self/fd").map_err(unknown)? {
        let name = entry.map_err(unknown)?.file_name();
        check_one(&name.to_string_lossy(), &own)?;
    }
    Ok(())
}

/// The same of standard input alone.
pub(super) fn check_input() -> Result<(), Fault> {
    check_one("0", "")
}

/// `own` is the list that is being read.
fn check_one(number: &str, own: &str) -> Result<(), Fault> {
    let link = Path::new("/proc/self/fd").join(number);
    // Closed again, or never open.
    let (Ok(target), Ok(open)) = (fs::read_link(&link), fs::metadata(&link)) else {
        return Ok(());
    };
    let target = target.to_string_lossy();
    let is_harmless = match STREAMS.contains(&number) {
        true => may_be_a_stream(&target, &open),
        false => is_data(&target, &open) || target == own,
    };
    if is_harmless {
        return Ok(());
    }
    Err(Fault::new(
        &format!("descriptor {number} is open"),
        &target,
        &format!("the program would inherit it; close it ({number}>&-)"),
    ))
}

/// Anything that bytes go through. The name of a socket, opened as a path, leads to whoever listens.
fn may_be_a_stream(target: &str, open: &Metadata) -> bool {
    !(open.is_dir() || open.file_type().is_socket() && !target.starts_with("socket:"))
}

/// A file, a pipe, a terminal. Namespaces, processes and what is below `/proc` look like files.
fn is_data(target: &str, open: &Metadata) -> bool {
    let kind = open.file_type();
    let is_kernels = !target.starts_with('/') || target.starts_with("/proc/");
    let is_terminal = ["/dev/pts/", "/dev/tty", "/dev/console"];
    let is_terminal = || is_terminal.iter().any(|start| target.starts_with(start));
    let null = makedev(1, 3);
    kind.is_fifo()
        || kind.is_file() && !is_kernels
        || kind.is_char_device() && (open.rdev() == null || is_terminal())
}

fn unknown(error: io::Error) -> Fault {
    Fault::new("cannot tell what is open", error, "mount /proc")
}
