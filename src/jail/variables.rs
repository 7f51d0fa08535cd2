//! The variables that make clients use a proxy, each with the value for one proxy.
//!
//! Which client reads which was measured, not looked up: curl wants `http_proxy` in lower case,
//! others upper; Java wants system properties; ssh a program to connect with. Values that a user has
//! set are overwritten, since a second proxy or an exception would be a way around; what several
//! settings share (`JAVA_TOOL_OPTIONS`, `GIT_SSH_COMMAND`, `GIT_CONFIG_*`) is added to.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use crate::net::Authority;

/// A variable and its value.
pub type Variable = (String, OsString);

/// Whose loopback addresses a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// Its own, which nothing outside listens on: no business of the proxy.
    Own,
    /// Those of the machine: the proxy is asked about them as about anything else.
    Shared,
}

/// All clients that take a URL.
const URLS: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "FTP_PROXY",
    "WS_PROXY",
    "WSS_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "ftp_proxy",
    "ws_proxy",
    "wss_proxy",
    "GRPC_PROXY",
    "grpc_proxy",
    // They beat what `.npmrc` says.
    "npm_config_proxy",
    "npm_config_http_proxy",
    "npm_config_https_proxy",
    "NPM_CONFIG_PROXY",
    "NPM_CONFIG_HTTP_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
    "BUNDLE_HTTP_PROXY",
    "BUNDLE_HTTPS_PROXY",
    "PIP_PROXY",
    "CARGO_HTTP_PROXY",
    "DOCKER_HTTP_PROXY",
    "DOCKER_HTTPS_PROXY",
    // Ours: `exeat connect` and `exeat why`.
    "EXEAT_PROXY",
];

/// All that name what does not go through a proxy.
const EXCEPTIONS: &[&str] = &[
    "NO_PROXY",
    "no_proxy",
    "NO_GRPC_PROXY",
    "no_grpc_proxy",
    "npm_config_noproxy",
    "NPM_CONFIG_NOPROXY",
    "YARN_NO_PROXY",
    "BUNDLE_NO_PROXY",
];

/// Names and literals only: that is all that every client understands.
const OWN_LOOPBACK: &str = "localhost,127.0.0.1,::1";

/// Everything to be set, for a proxy at `proxy`. `exeat` is this program, which ssh runs to connect;
/// `inherited` says what is set already.
#[must_use]
pub fn variables(
    proxy: &Authority,
    exeat: &Path,
    loopback: Loopback,
    inherited: impl Fn(&str) -> Option<OsString>,
) -> Vec<Variable> {
    let url = format!("http://{proxy}");
    let exceptions = match loopback {
        Loopback::Own => OWN_LOOPBACK,
        Loopback::Shared => "",
    };
    let set = |name: &str, value: &str| (name.to_owned(), OsString::from(value));
    let mut all: Vec<Variable> = URLS.iter().map(|name| set(name, &url)).collect();
    all.extend(EXCEPTIONS.iter().map(|name| set(name, exceptions)));
    let port = proxy.port.to_string();
    let host = proxy.host.to_bare_string();
    all.extend([
        // Node 24 and later; its fetch reads nothing without it.
        set("NODE_USE_ENV_PROXY", "1"),
        set("ELECTRON_GET_USE_PROXY", "true"),
        set("CLOUDSDK_PROXY_TYPE", "http"),
        set("CLOUDSDK_PROXY_ADDRESS", &host),
        set("CLOUDSDK_PROXY_PORT", &port),
        (
            "JAVA_TOOL_OPTIONS".to_owned(),
            java(inherited("JAVA_TOOL_OPTIONS"), &host, &port, loopback),
        ),
        ("GIT_SSH_COMMAND".to_owned(), ssh(inherited("GIT_SSH_COMMAND"), exeat)),
    ]);
    all.extend(git(inherited("GIT_CONFIG_COUNT"), &url));
    all
}

/// In single quotes, as shells of the Bourne family read one word.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// System properties; of two the last counts.
fn java(inherited: Option<OsString>, host: &str, port: &str, loopback: Loopback) -> OsString {
    let exceptions = match loopback {
        Loopback::Own => "localhost|127.*|[::1]",
        Loopback::Shared => "",
    };
    let mut options = inherited.filter(|options| !options.is_empty()).unwrap_or_default();
    if !options.is_empty() {
        options.push(" ");
    }
    options.push(format!(
        "-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} \
         -Dhttps.proxyHost={host} -Dhttps.proxyPort={port} -Dhttp.nonProxyHosts={exceptions}"
    ));
    options
}

/// OpenSSH with a program to connect with. A command of the user's own is kept if it is OpenSSH,
/// with its keys and options; of two `ProxyCommand`s OpenSSH takes the first.
fn ssh(inherited: Option<OsString>, exeat: &Path) -> OsString {
    let is_openssh = |command: &OsString| {
        let first = command.to_string_lossy();
        let first = first.split_whitespace().next().unwrap_or_default();
        Path::new(first).file_name() == Some(OsStr::new("ssh"))
    };
    let mut command = inherited.filter(is_openssh).unwrap_or_else(|| "ssh".into());
    // One shell reads the command, another the option; ssh itself replaces what `%` begins.
    let exeat = exeat.to_string_lossy().replace('%', "%%");
    let connect = format!("ProxyCommand={} connect -- %h %p", quote(&exeat));
    command.push(" -o ");
    command.push(quote(&connect));
    // A connection of before would be a way around.
    command.push(" -o ControlMaster=no -o ControlPath=none");
    command
}

/// `http.proxy` of a configuration file would beat the variables, and git sends credentials only
/// by a method that it is told.
fn git(inherited: Option<OsString>, url: &str) -> Vec<Variable> {
    let count = inherited.and_then(|count| count.to_str()?.parse::<u32>().ok()).unwrap_or(0);
    let entry = |place: u32, key: &str, value: &str| {
        let number = count.saturating_add(place);
        [
            (format!("GIT_CONFIG_KEY_{number}"), OsString::from(key)),
            (format!("GIT_CONFIG_VALUE_{number}"), OsString::from(value)),
        ]
    };
    let entries = [entry(0, "http.proxy", url), entry(1, "http.proxyAuthMethod", "basic")];
    let total =
        ("GIT_CONFIG_COUNT".to_owned(), OsString::from(count.saturating_add(2).to_string()));
    entries.into_iter().flatten().chain([total]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn given(loopback: Loopback, inherited: &[(&str, &str)]) -> BTreeMap<String, String> {
        let proxy = Authority::parse_connect(b"127.0.0.1:4000").unwrap();
        let inherited = |name: &str| {
            let (_, value) = inherited.iter().find(|(known, _)| *known == name)?;
            Some(OsString::from(value))
        };
        variables(&proxy, Path::new("/o'p t/exeat%h"), loopback, inherited)
            .into_iter()
            .map(|(name, value)| (name, value.into_string().unwrap()))
            .collect()
    }

    #[test]
    fn exceptions_are_overwritten() {
        let shared = given(Loopback::Shared, &[("NO_PROXY", "evil.test")]);
        let own = given(Loopback::Own, &[("no_proxy", "evil.test")]);
        for name in EXCEPTIONS {
            assert_eq!(shared[*name], "");
            assert_eq!(own[*name], "localhost,127.0.0.1,::1");
        }
        assert!(shared["JAVA_TOOL_OPTIONS"].ends_with("-Dhttp.nonProxyHosts="));
    }

    #[test]
    fn what_is_shared_is_added_to() {
        let given = given(
            Loopback::Own,
            &[
                ("JAVA_TOOL_OPTIONS", "-Xmx1g"),
                ("GIT_CONFIG_COUNT", "3"),
                ("GIT_SSH_COMMAND", "/usr/bin/ssh -i key"),
            ],
        );
        assert!(given["JAVA_TOOL_OPTIONS"].starts_with("-Xmx1g -Dhttp.proxyHost=127.0.0.1 "));
        assert_eq!(given["GIT_CONFIG_COUNT"], "5");
        assert_eq!(given["GIT_CONFIG_KEY_3"], "http.proxy");
        assert_eq!(given["GIT_CONFIG_VALUE_3"], "http://127.0.0.1:4000");
        assert!(given["GIT_SSH_COMMAND"].starts_with("/usr/bin/ssh -i key -o 'ProxyCommand="));
    }

    #[test]
    fn other_ssh_programs_are_replaced_and_paths_quoted() {
        let given = given(Loopback::Own, &[("GIT_SSH_COMMAND", "plink -batch")]);
        let command = &given["GIT_SSH_COMMAND"];
        let connect = r"ProxyCommand='/o'\''p t/exeat%%h' connect -- %h %p";
        let quoted = quote(connect);
        assert!(command.starts_with(&format!("ssh -o {quoted} -o ")), "{command}");
    }
}
