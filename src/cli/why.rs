//! `exeat why HOST`: whether a host can be reached, and if not, what to do. Agents read it.

use clap::Args;

use super::{
    Exit,
    check::{load, parse},
    complain,
    connect::no_proxy,
    policy::PolicyArgs,
    print,
    proxy::ProxyArgs,
    settings::SettingsArgs,
};
use crate::{
    jail::{Tunnel, TunnelError},
    net::Authority,
    policy::{Policy, Reason},
    settings::Environment,
};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the host can be reached, or the policy allows it; 1 not; \
    64 usage, or no proxy is known; 69 the proxy does not answer; 78 the policy or the settings are wrong",
    mut_arg("requirements", |of| of.help("A requirements.toml to ask, instead of the proxy")),
    mut_arg("preset", |of| of.help("A policy that is compiled in to ask, instead of the proxy")),
    mut_arg("settings", |of| of.help("Settings for such a policy [default: `$EXEAT_SETTINGS`]")),
)]
pub(super) struct Why {
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    proxy: ProxyArgs,
    /// A host, host:port (443 if there is none) or URL
    #[arg(value_name = "HOST")]
    target: String,
}

impl Why {
    pub(super) fn run(self, environment: Environment) -> Exit {
        let target = match parse(&self.target) {
            Ok(target) => target,
            Err(error) => {
                return complain(&format!("{}: {error}", self.target.escape_debug()), Exit::Usage);
            }
        };
        if self.policy.requirements.is_some() || self.policy.preset.is_some() {
            return match load(self.policy, &self.settings, environment) {
                Ok(policy) => explain(&policy, &target),
                Err(exit) => exit,
            };
        }
        match self.proxy.of_client() {
            Ok(Some(proxy)) => ask(&proxy, &target),
            Ok(None) => no_proxy(),
            Err(exit) => exit,
        }
    }
}

/// Asks for a tunnel as any program would, and closes it: the proxy's own answer is the truth.
fn ask(proxy: &Authority, target: &Authority) -> Exit {
    match Tunnel::open(proxy, target) {
        Ok(_) => say(Exit::Success, &format!("{target} is allowed, and answers")),
        Err(TunnelError::Refused(answer)) => {
            let what = answer.message.unwrap_or(answer.phrase);
            let verdict = match answer.status {
                403 => "refused",
                // Codes of a proxy that let it through and came no further.
                502 | 504 => "allowed, but not reached",
                _ => "not reached",
            };
            say(Exit::No, &format!("{target} is {verdict}: {what}"))
        }
        Err(error @ TunnelError::Proxy { .. }) => complain(&error, Exit::Unavailable),
    }
}

/// What a policy says by name, without any network access.
fn explain(policy: &Policy, target: &Authority) -> Exit {
    let ruleset = policy.ruleset();
    let place = ruleset.allow_place(ruleset.source.name());
    let denial = match policy.decide(target) {
        Ok(permit) => {
            let rule = permit.rule().and_then(|rule| policy.rule(rule));
            let by = rule.map_or_else(String::new, |rule| format!(" by {rule}"));
            return say(Exit::Success, &format!("{target} is allowed{by}"));
        }
        Err(denial) => denial,
    };
    let rule = denial.rule.and_then(|rule| policy.rule(rule));
    let by = rule.map_or(place, |rule| rule.to_string());
    let (what, cure) = match denial.reason {
        Reason::Denied => ("denied", "ask the administrator if it should not be"),
        Reason::NotAllowed => {
            ("not in allowed_domains", "ask the administrator to add it to that list")
        }
        Reason::NotAllowedLocal => (
            "local or private",
            "ask the administrator for a rule that names it, or the operator to list it in \
             `[egress] private`",
        ),
        Reason::PortNotAllowed => {
            ("allowed on other ports only", "use one of those, or ask the administrator")
        }
        Reason::ProxyDisabled => {
            ("refused, as everything is (enabled = false)", "ask the administrator")
        }
    };
    say(Exit::No, &format!("{target} is refused: {what} ({by}); {cure}. Retrying will not help."))
}

fn say(exit: Exit, line: &str) -> Exit {
    print(format!("{line}\n"), exit)
}
