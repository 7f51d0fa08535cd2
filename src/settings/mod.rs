//! What the operator wants: flags, environment and `exeat.toml`, in that order of precedence.
//!
//! Three values in, one [`Settings`] out, by [`Settings::resolve`]; nothing here opens a socket or
//! reads a file. The policy itself is not a setting: it comes from `source`.

mod duration;
mod environment;
mod file;
mod flags;
mod parent;
mod place;
mod resolve;
mod secret;

pub use duration::{DurationError, parse_duration};
pub use environment::{Environment, EnvironmentError};
pub use file::SettingsFile;
pub use flags::Flags;
pub use parent::{Ask, Credentials, Exception, Parent, ParentUrl, ParentUrlError, Usual};
pub use place::{Place, PlaceError};
pub use resolve::{
    Asked, AuditTarget, Chosen, Confine, Dns, Ech, Limits, Listen, Permissions, Private, Settings,
    Sni, Socks, Timeouts, Tls,
};
pub use secret::{Secret, without_credentials};
