//! `exeat env`: the variables that make clients use a running proxy, for a shell to read.

use std::ffi::OsStr;

use clap::{Args, ValueEnum};

use super::{
    Exit, complain, print,
    proxy::{default_url, parse},
};
use crate::{
    jail::{Loopback, quote, variables},
    settings::Environment,
};

#[derive(Debug, Args)]
pub(super) struct Env {
    /// The proxy's URL [default: `$EXEAT_LISTEN`, then `http://127.0.0.1:3128`]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Who is to read it
    #[arg(long, value_enum, default_value_t = Shell::Bash)]
    shell: Shell,
}

/// How variables are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    /// `eval "$(exeat env)"`, in any shell of the Bourne family
    Bash,
    /// `exeat env --shell fish | source`
    Fish,
    /// `exeat env --shell powershell | Out-String | Invoke-Expression`
    Powershell,
    /// NAME='value', for files that other programs read
    Dotenv,
}

impl Env {
    pub(super) fn run(self, environment: &Environment) -> Exit {
        let url = self.proxy.clone().unwrap_or_else(|| default_url(environment));
        let proxy = match parse(&url) {
            Ok(proxy) => proxy,
            Err(exit) => return exit,
        };
        let exeat = match std::env::current_exe() {
            Ok(exeat) => exeat,
            Err(error) => {
                return complain(
                    &format!("cannot tell where this program is: {error}"),
                    Exit::Unavailable,
                );
            }
        };
        let inherited = |name: &str| std::env::var_os(name);
        let lines = variables(&proxy, &exeat, Loopback::Shared, inherited)
            .into_iter()
            .map(|(name, value)| self.shell.line(&name, &value) + "\n");
        print(lines.collect::<String>(), Exit::Success)
    }
}

impl Shell {
    fn line(self, name: &str, value: &OsStr) -> String {
        let text = value.to_string_lossy();
        match self {
            Self::Bash => format!("export {name}={}", quote(&text)),
            Self::Dotenv => format!("{name}={}", quote(&text)),
            // fish(1): within single quotes `\'` and `\\` are the only escapes.
            Self::Fish => {
                format!("set -gx {name} '{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
            }
            // about_Quoting_Rules: a single quote is doubled.
            Self::Powershell => format!("$env:{name} = '{}'", text.replace('\'', "''")),
        }
    }
}
