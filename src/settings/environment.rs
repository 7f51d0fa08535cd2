//! The `EXEAT_*` variables.
//!
//! Read through a function, so that a test hands in a map and nothing but `cli` touches the
//! process's environment.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    ParentUrl, Place, PlaceError, Secret, Socks, Usual,
    parent::{USUAL, USUAL_EXCEPTIONS},
    parse_duration,
};

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `EXEAT_REQUIREMENTS`.
    pub requirements: Option<PathBuf>,
    /// `EXEAT_PRESET`.
    pub preset: Option<String>,
    /// `EXEAT_SETTINGS`.
    pub settings: Option<PathBuf>,
    /// `EXEAT_LISTEN`.
    pub listen: Option<Place>,
    /// `EXEAT_SOCKS`: as `--socks`.
    pub socks: Option<Socks>,
    /// `EXEAT_TRANSPARENT`: addresses with commas between them.
    pub transparent: Option<Vec<SocketAddr>>,
    /// `EXEAT_ALLOW_NON_LOOPBACK`: `true` or `false`.
    pub allow_non_loopback: Option<bool>,
    /// `EXEAT_AUDIT`.
    pub audit: Option<String>,
    /// `EXEAT_DRAIN`.
    pub drain: Option<Duration>,
    /// `EXEAT_LOG`.
    pub log: Option<String>,
    /// `EXEAT_PARENT`.
    pub parent: Option<ParentUrl>,
    /// What other programs take for their proxy, which counts only if the policy says so. Not
    /// looked at before.
    pub usual: Option<Usual>,
    /// `NO_PROXY`, or `no_proxy`.
    pub no_proxy: Option<String>,
}

/// A variable that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable} is `{value}`: {expected}")]
pub struct EnvironmentError {
    variable: &'static str,
    value: String,
    expected: String,
}

impl Environment {
    /// Reads the variables; empty ones count as unset.
    ///
    /// # Errors
    ///
    /// The first variable that cannot be understood.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, EnvironmentError> {
        let raw = |name: &str| get(name).filter(|value| !value.is_empty());
        let text = |variable: &'static str| -> Result<Option<String>, EnvironmentError> {
            raw(variable)
                .map(|value| {
                    value.into_string().map_err(|value| EnvironmentError {
                        variable,
                        value: value.to_string_lossy().into_owned(),
                        expected: "must be UTF-8".into(),
                    })
                })
                .transpose()
        };
        Ok(Self {
            requirements: raw("EXEAT_REQUIREMENTS").map(PathBuf::from),
            preset: text("EXEAT_PRESET")?,
            settings: raw("EXEAT_SETTINGS").map(PathBuf::from),
            listen: parse("EXEAT_LISTEN", text("EXEAT_LISTEN")?, |value| {
                value.parse().map_err(|error: PlaceError| error.to_string())
            })?,
            socks: parse("EXEAT_SOCKS", text("EXEAT_SOCKS")?, |value| {
                value.parse().map_err(|error: PlaceError| format!("{error}, or `off`"))
            })?,
            transparent: parse("EXEAT_TRANSPARENT", text("EXEAT_TRANSPARENT")?, |value| {
                let addresses: Result<_, _> =
                    value.split(',').map(|address| address.trim().parse()).collect();
                let expected = "must be ADDRESS:PORT, such as 127.0.0.1:15001, or several with \
                                commas between them";
                addresses.map_err(|_| expected.to_owned())
            })?,
            allow_non_loopback: parse(
                "EXEAT_ALLOW_NON_LOOPBACK",
                text("EXEAT_ALLOW_NON_LOOPBACK")?,
                |value| value.parse().map_err(|_| "must be `true` or `false`".to_owned()),
            )?,
            audit: text("EXEAT_AUDIT")?,
            drain: parse("EXEAT_DRAIN", text("EXEAT_DRAIN")?, |value| {
                parse_duration(value).map_err(|error| error.to_string())
            })?,
            log: text("EXEAT_LOG")?,
            parent: raw("EXEAT_PARENT").map(parent).transpose()?,
            usual: USUAL.iter().find_map(|variable| {
                let url = Secret::from(raw(variable)?.to_string_lossy().into_owned());
                Some(Usual { variable, url })
            }),
            no_proxy: USUAL_EXCEPTIONS
                .iter()
                .find_map(|name| Some(raw(name)?.to_string_lossy().into_owned())),
        })
    }
}

/// Not like the others: its value may hold a password.
fn parent(url: OsString) -> Result<ParentUrl, EnvironmentError> {
    let wrong = |expected: String| EnvironmentError {
        variable: "EXEAT_PARENT",
        value: "...".into(),
        expected,
    };
    let url = url.into_string().map_err(|_| wrong("must be UTF-8".into()))?;
    ParentUrl::parse(&url).map_err(|error| wrong(error.to_string()))
}

fn parse<T>(
    variable: &'static str,
    value: Option<String>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, EnvironmentError> {
    let Some(value) = value else { return Ok(None) };
    match parse(&value) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(expected) => Err(EnvironmentError { variable, value, expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_refuses() {
        let with = |name: &'static str, value: &'static str| {
            Environment::read(move |asked| (asked == name).then(|| value.into()))
        };
        assert_eq!(with("EXEAT_LISTEN", "127.0.0.1:0").unwrap().listen, "127.0.0.1:0".parse().ok());
        assert_eq!(with("EXEAT_SOCKS", "off").unwrap().socks, Some(Socks::Off));
        assert!(with("EXEAT_SOCKS", "8081").is_err());
        let both = with("EXEAT_TRANSPARENT", "127.0.0.1:1, [::1]:2").unwrap().transparent;
        assert_eq!(both.unwrap().len(), 2);
        assert!(with("EXEAT_TRANSPARENT", "127.0.0.1:1,").is_err());
        assert_eq!(with("EXEAT_DRAIN", "5s").unwrap().drain, Some(Duration::from_secs(5)));
        assert_eq!(with("EXEAT_PRESET", "").unwrap().preset, None);
        let error = with("EXEAT_PARENT", "ftp://u:hidden@h").unwrap_err().to_string();
        assert!(error.starts_with("environment variable EXEAT_PARENT is `...`: "), "{error}");
        let usual = with("https_proxy", "http://u:hidden@h").unwrap().usual.unwrap();
        assert_eq!((usual.variable, usual.url.reveal()), ("https_proxy", "http://u:hidden@h"));
        assert!(!format!("{usual:?}").contains("hidden"));
        let error = with("EXEAT_LISTEN", "localhost").unwrap_err().to_string();
        assert_eq!(
            error,
            "environment variable EXEAT_LISTEN is `localhost`: write ADDRESS:PORT, \
             such as 127.0.0.1:3128, or unix:/absolute/path"
        );
    }
}
