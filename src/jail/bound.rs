//! The unix sockets that are bound to files, as the kernel knows them (`UNIX_DIAG` in `sock_diag(7)`):
//! each by its filesystem and inode, wherever the file is by now.
//!
//! Those of this network namespace only: nobody is told of others.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{ffi::OsStrExt as _, ffi::OsStringExt as _},
    path::PathBuf,
};

use super::{
    mounts::Device,
    netlink::{NLM_F_REQUEST, dump, message},
};

/// A file, while its filesystem is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device: Device,
    /// The lower half of its number: there is no more of it.
    pub(super) inode: u32,
}

// linux/sock_diag.h and linux/unix_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_DUMP: u16 = 0x300;
const AF_UNIX: u8 = 1;
const SHOW_NAME_AND_FILE: u32 = 0b11;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_VFS: u16 = 1;
/// Bits of a kernel's device number that are the minor one's.
const MINOR_BITS: u32 = 20;

const SOCK_DGRAM: u8 = 2;
const TCP_ESTABLISHED: u8 = 1;

/// Those to which somebody could connect, each with the name to which it was bound: as it was
/// written, relative to a directory that may be forgotten, of a file that may have another by now.
///
/// # Errors
///
/// The kernel does not tell.
pub(super) fn bound() -> io::Result<BTreeMap<FileId, PathBuf>> {
    // A `struct unix_diag_req`: of all states.
    let mut body = vec![AF_UNIX, 0, 0, 0];
    for field in [u32::MAX, 0, SHOW_NAME_AND_FILE, 0, 0] {
        body.extend(field.to_ne_bytes());
    }
    let request = message(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, &body);
    let mut found = BTreeMap::new();
    dump(&request, |answer| found.extend(read(answer)))?;
    Ok(found)
}

/// One `struct unix_diag_msg` with its attributes.
fn read(answer: &[u8]) -> Option<(FileId, PathBuf)> {
    let [_, kind, state, ..] = answer.get(..16)? else { return None };
    // The end of a connection that was accepted has the name too, and takes no other.
    if *kind != SOCK_DGRAM && *state == TCP_ESTABLISHED {
        return None;
    }
    let (mut name, mut file) = (None, None);
    let mut rest = answer.get(16..)?;
    while let Some(head) = rest.get(..4) {
        let length = usize::from(u16::from_ne_bytes(head.get(..2)?.try_into().ok()?));
        let value = rest.get(4..length)?;
        match u16::from_ne_bytes(head.get(2..)?.try_into().ok()?) {
            UNIX_DIAG_NAME => name = Some(value),
            UNIX_DIAG_VFS => file = Some((number(value, 0)?, number(value, 4)?)),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    let (inode, device) = file?;
    let device = Device { major: device >> MINOR_BITS, minor: device & ((1 << MINOR_BITS) - 1) };
    let name = name?.split(|byte| *byte == 0).next()?;
    Some((FileId { device, inode }, OsStr::from_bytes(name).into()))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Their names alone, those of them that are absolute (`/proc/net/unix` in `proc_net(5)`), where the
/// kernel has nothing better.
pub(super) fn names() -> Vec<PathBuf> {
    let list = fs::read("/proc/net/unix").unwrap_or_default();
    let path = |line: &[u8]| {
        let at = line.windows(2).position(|pair| pair == b" /")?;
        Some(PathBuf::from(OsString::from_vec(line.get(at + 1..)?.to_owned())))
    };
    list.split(|byte| *byte == b'\n').filter_map(path).collect()
}
