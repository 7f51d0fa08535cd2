//! Files by Landlock (landlock(7)): nothing is opened but what was named, no TCP port is bound, and
//! neither signals nor abstract unix sockets reach processes outside.
//!
//! Rules hold for directories with all below them, so that a file may be replaced by renaming
//! another over it. Rights of newer kernels are asked for, and left out on older ones.

use std::{
    fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use super::Files;

/// The newest rights this was read and tested for. All of its file rights are forbidden unless a
/// rule gives them.
const KNOWN: ABI = ABI::V9;

/// Restricts the calling thread.
pub(super) fn restrict(files: &Files) -> Result<String, String> {
    let status = rules(files).and_then(RulesetCreated::restrict_self);
    let status = status.map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, .. },
        ) => {
            let version = format!("{effective_abi:?}");
            Ok(format!("Landlock ABI {} ({})", version.trim_start_matches('V'), summary(files)))
        }
        (_, LandlockStatus::NotEnabled) => Err("Landlock is off in this kernel".into()),
        (_, LandlockStatus::NotImplemented) => Err("this kernel has no Landlock".into()),
        (RulesetStatus::NotEnforced, LandlockStatus::Available { .. }) => {
            Err("Landlock did not enforce the rules".into())
        }
    }
}

fn rules(files: &Files) -> Result<RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for path in &files.read {
        rules = allow(rules, path, AccessFs::ReadFile.into())?;
    }
    for path in &files.write {
        let access = match path.is_dir() {
            true => AccessFs::WriteFile | AccessFs::MakeReg,
            false => AccessFs::WriteFile.into(),
        };
        rules = allow(rules, path, access)?;
    }
    for path in &files.remove {
        rules = allow(rules, path, AccessFs::RemoveFile.into())?;
    }
    for path in &files.connect {
        // The directory, because whoever listens makes the socket anew.
        let place = path.parent().unwrap_or(path);
        rules = allow(rules, place, AccessFs::ResolveUnix.into())?;
    }
    Ok(rules)
}

/// A path without a name of its own, such as a pipe under `/proc`, takes no rule and needs none.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let named = fs::canonicalize(path).ok().and_then(|path| PathFd::new(path).ok());
    match named {
        Some(place) => rules.add_rule(PathBeneath::new(place, access)),
        None => Ok(rules),
    }
}

fn summary(files: &Files) -> String {
    let list = |verb: &str, paths: &[PathBuf]| match paths {
        [] => format!("{verb} no file"),
        paths => {
            let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            format!("{verb} {}", paths.join(" "))
        }
    };
    let both = format!("{}, {}", list("reads", &files.read), list("writes", &files.write));
    let with = |said: String, verb: &str, paths: &[PathBuf]| match paths {
        [] => said,
        paths => format!("{said}, {}", list(verb, paths)),
    };
    with(with(both, "removes from", &files.remove), "connects to", &files.connect)
}
