//! The command line: one file a subcommand. The only place that prints, reads the process's
//! environment and chooses exit codes.

#[cfg(feature = "bench")]
mod bench;
mod check;
mod connect;
mod diff;
mod doctor;
mod env;
mod generate;
mod health;
mod import;
#[cfg(target_os = "linux")]
mod inside;
mod mode;
mod parent;
mod place;
mod policy;
mod preset;
mod proxy;
mod run;
mod serve;
mod settings;
mod slot;
mod suggest;
mod validate;
mod why;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::settings::Environment;

/// A network egress policy proxy: enforces the domain rules of a managed requirements.toml on
/// CONNECT and HTTP traffic.
#[derive(Debug, Parser)]
#[command(name = "exeat", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the answer is no, 64 usage, \
    69 a socket, a file or the jail cannot be had, or the proxy does not answer, \
    70 the self-test failed, 78 the policy or the settings are wrong; `run` ends as its program does, \
    or with 126 if that cannot be run, 127 if it is not there";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    Serve(serve::Serve),
    /// Run a program with a proxy of its own, and on Linux with no other way out
    Run(run::Run),
    /// What `run` starts in a jail
    #[cfg(target_os = "linux")]
    #[command(name = "jail-inside", hide = true)]
    Inside(inside::Inside),
    /// Print the variables that make clients use a running proxy
    Env(env::Env),
    /// Connect input and output to a host through the proxy, as ssh's `ProxyCommand`
    Connect(connect::Connect),
    /// Try every way out, and say which is open
    Doctor(doctor::Doctor),
    /// Say whether a host can be reached, and what to do if not
    Why(why::Why),
    /// Say what the policy decides about targets, without any network access
    Check(check::Check),
    /// Say what changes from one policy file to another: keys, rules, hosts that gain or lose leave
    Diff(diff::Diff),
    /// Write the policy that allows what an audit says was asked for
    Suggest(suggest::Suggest),
    /// Translate what another program lets out: settings of srt, squid.conf, a hosts file and others
    Import(import::Import),
    /// Check policy files: everything wrong with them, and what looks wrong
    Validate(validate::Validate),
    /// List the presets, or print one as TOML
    Preset(preset::Preset),
    /// Measure what the rules cost, beside other ways to match them
    #[cfg(feature = "bench")]
    Bench(bench::Bench),
    /// Print completions for shells, or write manual pages
    Generate(generate::Generate),
    /// Ask a running proxy how it is, for container health checks
    Health(health::Health),
}

/// How the program ends; the numbers are those of sysexits.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// All well.
    Success = 0,
    /// Done, and the answer is no.
    No = 1,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
    /// A socket, file, jail or proxy that is needed cannot be had (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// The proxy does not do what it must (`EX_SOFTWARE`).
    Software = 70,
    /// The policy or the settings are wrong (`EX_CONFIG`).
    Config = 78,
}

/// Runs the command line of this process.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => dispatch(cli.command),
        Err(error) => {
            // Help and version are no errors, and go to stdout.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            error.print().ok();
            exit.into()
        }
    }
}

fn dispatch(command: Command) -> ExitCode {
    let environment = || {
        Environment::read(|name| std::env::var_os(name))
            .map_err(|error| complain(&error, Exit::Config))
    };
    let ended = match command {
        // It ends as its program does.
        Command::Run(run) => {
            return environment().map_or_else(ExitCode::from, |environment| run.run(environment));
        }
        #[cfg(target_os = "linux")]
        Command::Inside(inside) => return inside.run(),
        Command::Env(env) => environment().map(|environment| env.run(&environment)),
        Command::Doctor(doctor) => Ok(doctor.run()),
        Command::Connect(connect) => Ok(connect.run()),
        Command::Why(why) => environment().map(|environment| why.run(environment)),
        Command::Serve(serve) => environment().map(|environment| serve.run(environment)),
        Command::Check(check) => environment().map(|environment| check.run(environment)),
        #[cfg(feature = "bench")]
        Command::Bench(bench) => environment().map(|environment| bench.run(environment)),
        Command::Diff(diff) => Ok(diff.run()),
        Command::Suggest(suggest) => Ok(suggest.run()),
        Command::Import(import) => Ok(import.run()),
        Command::Generate(generate) => Ok(generate.run()),
        Command::Validate(validate) => Ok(validate.run()),
        Command::Preset(preset) => Ok(preset.run()),
        Command::Health(health) => environment().map(|environment| health.run(&environment)),
    };
    ended.unwrap_or_else(|exit| exit).into()
}

/// A text on stdout, and how the program ends if that can be written.
fn print(text: impl AsRef<[u8]>, exit: Exit) -> Exit {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_ref()).and_then(|()| out.flush()), exit)
}

/// How the program ends that wrote to stdout. Who has read enough may leave: that is no error.
fn written(outcome: io::Result<()>, exit: Exit) -> Exit {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&error, Exit::Unavailable)
        }
        Ok(()) | Err(_) => exit,
    }
}

/// One line on stderr, and the exit code that goes with it.
fn complain(message: &dyn std::fmt::Display, exit: Exit) -> Exit {
    say(&format!("exeat: {message}"));
    exit
}

/// One line on stderr; if even that is closed, nobody listens.
fn say(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::No => 1,
            Exit::Usage => 64,
            Exit::Unavailable => 69,
            Exit::Software => 70,
            Exit::Config => 78,
        })
    }
}
