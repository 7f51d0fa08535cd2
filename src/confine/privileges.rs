//! Capabilities and `no_new_privs` (capabilities(7), `PR_SET_NO_NEW_PRIVS` in prctl(2)).

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs,
    },
};

/// No program started later gains anything from set-user-ID bits or file capabilities.
pub(super) fn gain_none() -> Result<String, String> {
    set_no_new_privs(true).map_err(|error| error.to_string())?;
    Ok("no_new_privs".into())
}

/// Empties every set. Ports below 1024 are bound by now; root keeps what files give to their
/// owner, and nothing else.
pub(super) fn drop_capabilities() -> Result<String, String> {
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // Unknown to this kernel; or ours to keep, which no_new_privs makes worthless.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    // What is not permitted is not ambient either: this fails only where there is no such set.
    clear_ambient_capability_set().ok();
    set_capabilities(None, none).map_err(|error| error.to_string())?;
    match capabilities(None) {
        Ok(left) if left == none => Ok("no capabilities".into()),
        Ok(_) => Err("some are left".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Sees that the bounding set is empty: user 0 regains by starting a program what is left there.
pub(super) fn none_can_be_had() -> Result<(), String> {
    // Those unknown to this kernel are in no set.
    let left = CapabilitySet::all().iter().find(|capability| {
        capability_is_in_bounding_set(*capability).is_ok_and(|is_there| is_there)
    });
    match left {
        Some(capability) => Err(format!("{capability:?} can be regained")),
        None => Ok(()),
    }
}
