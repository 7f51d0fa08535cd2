//! Compose files: an agent on a network whose only other member is exeat.
//!
//! That such a network keeps what it promises is tried in `clients::composed`.

use serde_json::{Value, json};

use super::{POLICY, is_healthy, pairs, start, strings, yaml};

/// How a compose file names its parts.
struct Names<'a> {
    agent: &'a str,
    inside: &'static str,
    outside: &'static str,
}

const NAMES: Names<'_> = Names { agent: "agent", inside: "inside", outside: "outside" };

/// What every one of them has in common.
#[track_caller]
pub(super) fn check(compose: &Value, agent: &str) {
    check_networks(compose, &Names { agent, ..NAMES });
}

#[track_caller]
fn check_networks(compose: &Value, names: &Names<'_>) {
    let (exeat, agent) = (&compose["services"]["exeat"], &compose["services"][names.agent]);
    assert_eq!(strings(&agent["networks"]), [names.inside]);
    assert_eq!(compose["networks"][names.inside]["internal"], true);
    assert_eq!(strings(&exeat["networks"]), [names.inside, names.outside]);
    assert!(compose["networks"][names.outside]["internal"].is_null());
    for service in [exeat, agent] {
        assert!(service["privileged"].is_null() && service["network_mode"].is_null());
        assert!(service["cap_add"].is_null() && service["ports"].is_null());
    }
    assert_eq!(strings(&exeat["cap_drop"]), ["ALL"]);
    assert_eq!(strings(&exeat["security_opt"]), ["no-new-privileges:true"]);
    assert_eq!(exeat["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&exeat["read_only"], &exeat["volumes"][0]["read_only"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(exeat["volumes"][0]["target"], POLICY.0);
    // It would be a router.
    assert_eq!(exeat["sysctls"]["net.ipv4.ip_forward"], "0");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        assert_eq!(agent["environment"][name], "http://exeat:3128");
    }
    assert_eq!(agent["depends_on"]["exeat"]["condition"], "service_healthy");
    assert_eq!(strings(&exeat["healthcheck"]["test"]), ["CMD", "/exeat", "health"]);
    assert_eq!(exeat["environment"]["EXEAT_LISTEN"], "0.0.0.0:3128");

    let directory = tempfile::tempdir().unwrap();
    let variables = pairs(&exeat["environment"]);
    let started = start(directory.path(), &strings(&exeat["command"]), &variables, &[POLICY]);
    assert!(is_healthy(&started.address));
}

#[test]
fn the_composed_agent_has_no_other_way_out() {
    let compose = yaml("compose/compose.yaml");
    check(&compose, "agent");
    assert_eq!(strings(&compose["services"]["agent"]["cap_drop"]), ["ALL"]);
}

#[test]
fn the_override_takes_other_networks_away() {
    let names = Names { inside: "exeat-inside", outside: "exeat-outside", ..NAMES };
    let compose = yaml("compose/override.yaml");
    check_networks(&compose, &names);
    // JSON knows no tags.
    assert!(
        super::text("compose/override.yaml").contains("networks: !override [\"exeat-inside\"]")
    );
    // The agent may have the project's directory for its work.
    let policy = compose["services"]["exeat"]["volumes"][0]["source"].as_str().unwrap();
    assert!(policy.starts_with("${EXEAT_REQUIREMENTS:?"), "{policy}");
}
