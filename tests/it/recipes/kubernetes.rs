//! Manifests for Kubernetes: beside an agent, and as its only way out.

use std::process::Command;

use serde_json::{Value, json};

use super::{EXEAT, Mounted, is_healthy, start, strings, text};

/// The documents of a file.
fn manifests(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn of_kind<'v>(documents: &'v [Value], kind: &str, name: &str) -> &'v Value {
    let is_it =
        |document: &&Value| document["kind"] == kind && document["metadata"]["name"] == name;
    documents.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn variables(container: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let variables = container["env"].as_array().unwrap().iter();
    variables.map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
}

/// Starts exeat as its container does, with the files of the map that is mounted there.
#[track_caller]
fn check_exeat(container: &Value, volumes: &Value, documents: &[Value]) {
    let (mount, volume) = (&container["volumeMounts"][0], &volumes[0]);
    assert_eq!((&mount["name"], &mount["readOnly"]), (&volume["name"], &json!(true)));
    let map = of_kind(documents, "ConfigMap", volume["configMap"]["name"].as_str().unwrap());
    let files: Vec<(String, String)> = super::pairs(&map["data"])
        .into_iter()
        .map(|(name, text)| (format!("{}/{name}", mount["mountPath"].as_str().unwrap()), text))
        .collect();
    let mounted: Vec<Mounted<'_>> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    for (path, _) in &mounted {
        assert!(strings(&container["args"]).contains(path), "{path} is of no use");
    }
    let directory = tempfile::tempdir().unwrap();
    let started =
        start(directory.path(), &strings(&container["args"]), &variables(container), &mounted);
    assert!(is_healthy(&started.address));
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        if let Some(probe) = container.get(probe) {
            assert_eq!(strings(&probe["exec"]["command"]), ["/exeat", "health"]);
        }
    }
    let security = &container["securityContext"];
    assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"]);
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);

    let policy = directory.path().join("etc-codex-requirements.toml");
    let mut validate = Command::new(EXEAT);
    assert!(validate.args(["validate", "--strict"]).arg(policy).output().unwrap().status.success());
}

#[track_caller]
fn check_agent(agent: &Value, proxy: &str) {
    let variables = variables(agent);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        assert!(variables.contains(&(name.to_owned(), proxy.to_owned())), "{name}: {variables:?}");
    }
    assert_eq!(strings(&agent["securityContext"]["capabilities"]["drop"]), ["ALL"]);
    assert_eq!(agent["securityContext"]["allowPrivilegeEscalation"], false);
}

#[test]
fn the_sidecar_is_up_before_the_agent() {
    let documents = manifests("kubernetes/sidecar.yaml");
    let pod = &of_kind(&documents, "Pod", "agent")["spec"];
    let exeat = &pod["initContainers"][0];
    assert_eq!(exeat["restartPolicy"], "Always");
    assert!(exeat["startupProbe"].is_object());
    check_exeat(exeat, &pod["volumes"], &documents);
    check_agent(&pod["containers"][0], "http://127.0.0.1:3128");
    assert!(variables(exeat).contains(&("EXEAT_LISTEN".into(), "127.0.0.1:3128".into())));
    // What the agent runs as could otherwise end it.
    assert_ne!(
        exeat["securityContext"]["runAsUser"],
        pod["containers"][0]["securityContext"]["runAsUser"]
    );
    assert_eq!((&pod["hostNetwork"], &pod["shareProcessNamespace"]), (&json!(null), &json!(null)));
}

#[test]
fn the_enforced_agent_reaches_exeat_and_nothing_else() {
    let documents = manifests("kubernetes/enforced.yaml");
    let namespace = &of_kind(&documents, "Namespace", "agents")["metadata"]["name"];
    for document in documents.iter().filter(|document| document["kind"] != "Namespace") {
        assert_eq!(&document["metadata"]["namespace"], namespace);
    }
    let deployment = &of_kind(&documents, "Deployment", "exeat")["spec"];
    let label = json!({ "app": "exeat" });
    assert_eq!(deployment["selector"]["matchLabels"], label);
    assert_eq!(deployment["template"]["metadata"]["labels"], label);
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["enableServiceLinks"], false);
    check_exeat(&pod["containers"][0], &pod["volumes"], &documents);

    let service = &of_kind(&documents, "Service", "exeat")["spec"];
    assert_eq!((&service["selector"], &service["ports"][0]["port"]), (&label, &json!(3128)));
    assert_eq!(pod["containers"][0]["ports"][0]["containerPort"], 3128);
    let agent = of_kind(&documents, "Pod", "agent");
    // Found without DNS: by what Kubernetes sets for the service of that name.
    check_agent(
        &agent["spec"]["containers"][0],
        "http://$(EXEAT_SERVICE_HOST):$(EXEAT_SERVICE_PORT)",
    );
    assert_eq!(agent["spec"]["dnsPolicy"], "None");
    assert_ne!(agent["metadata"]["labels"]["app"], "exeat");

    // A pod that a policy selects goes where one of them lets it go, and nowhere else.
    let nothing = &of_kind(&documents, "NetworkPolicy", "nothing")["spec"];
    assert_eq!(nothing, &json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }));
    let of_agents = &of_kind(&documents, "NetworkPolicy", "agents-to-exeat")["spec"];
    let ports = json!([{ "protocol": "TCP", "port": 3128 }]);
    assert_eq!(
        of_agents["egress"],
        json!([{ "to": [{ "podSelector": { "matchLabels": label } }], "ports": ports }])
    );
    let others = json!([{ "key": "app", "operator": "NotIn", "values": ["exeat"] }]);
    assert_eq!(of_agents["podSelector"], json!({ "matchExpressions": others }));
    let of_exeat = &of_kind(&documents, "NetworkPolicy", "exeat")["spec"];
    assert_eq!(of_exeat["podSelector"], json!({ "matchLabels": label }));
    assert_eq!(of_exeat["ingress"], json!([{ "from": [{ "podSelector": {} }], "ports": ports }]));
    let policies = documents.iter().filter(|document| document["kind"] == "NetworkPolicy");
    assert_eq!(policies.count(), 3);
}
