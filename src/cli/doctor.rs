//! `exeat doctor`: from inside any environment, what can be reached without the proxy, and whether
//! programs are told of the proxy.

use std::{
    io::{self, Write as _},
    path::Path,
};

use clap::Args;

use super::{Exit, health::ask, proxy::ProxyArgs};
use crate::{
    jail::{Loopback, Probe, probe_network, probe_sockets, variables},
    net::Authority,
};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the proxy answers, programs are told of it, and nothing else \
    can be reached; 1 otherwise"
)]
pub(super) struct Doctor {
    #[command(flatten)]
    proxy: ProxyArgs,
}

impl Doctor {
    pub(super) fn run(self) -> Exit {
        let proxy = match self.proxy.of_client() {
            Ok(proxy) => proxy,
            Err(exit) => return exit,
        };
        let mut is_well = match &proxy {
            Some(proxy) => answers(proxy) & is_told(proxy),
            None => {
                print("MISSING", "no variable names a proxy");
                false
            }
        };
        for Probe { what, outcome } in probe_network() {
            match outcome {
                Ok(()) => {
                    print("OPEN", &format!("{what}: it answers"));
                    is_well = false;
                }
                Err(why) => print("closed", &format!("{what}: {why}")),
            }
        }
        // Most machines have many, of which most are closed to this user.
        let open: Vec<Probe> =
            probe_sockets().into_iter().filter(|probe| probe.outcome.is_ok()).collect();
        for Probe { what, .. } in &open {
            print("OPEN", what);
        }
        if open.is_empty() {
            print("closed", "unix sockets: none can be found and connected to");
        }
        match is_well && open.is_empty() {
            true => Exit::Success,
            false => Exit::No,
        }
    }
}

fn answers(proxy: &Authority) -> bool {
    match ask(proxy) {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {
            print("ok", &format!("the proxy at {proxy} answers"));
            true
        }
        Ok(_) => {
            print("MISSING", &format!("what answers at {proxy} is not exeat"));
            false
        }
        Err(error) => {
            print("MISSING", &format!("the proxy at {proxy} does not answer: {error}"));
            false
        }
    }
}

/// Whether the environment says what `exeat env` would.
fn is_told(proxy: &Authority) -> bool {
    // What is added to what the user has may look different.
    let is_shared = |name: &str| name.starts_with("GIT_") || name == "JAVA_TOOL_OPTIONS";
    let wanted = |loopback| variables(proxy, Path::new("exeat"), loopback, |_| None);
    // In a jail loopback is an exception.
    let missing: Vec<String> = wanted(Loopback::Shared)
        .into_iter()
        .zip(wanted(Loopback::Own))
        .filter(|((name, shared), (_, own))| {
            let value = std::env::var_os(name);
            !is_shared(name) && value.as_ref() != Some(shared) && value.as_ref() != Some(own)
        })
        .map(|((name, _), _)| name)
        .collect();
    match missing.as_slice() {
        [] => print("ok", "every variable that makes clients use it is set"),
        names => print(
            "MISSING",
            &format!(
                "not set, or to something else (`exeat env` prints them): {}",
                names.join(" ")
            ),
        ),
    }
    missing.is_empty()
}

fn print(verdict: &str, what: &str) {
    writeln!(io::stdout(), "{verdict:<8} {what}").ok();
}
