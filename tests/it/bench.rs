//! `exeat bench`: what it reports, not how fast anything is.

use std::{fs, process::Command};

use serde_json::Value;

const CLASSES: [&str; 4] = ["hit", "near", "miss", "deep"];
const MATCHERS: [&str; 7] = [
    "exeat",
    "exeat, from bytes",
    "linear scan",
    "hash walk",
    "globset",
    "globset, from bytes",
    "regex set",
];

fn bench(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("EXEAT_REQUIREMENTS")
        .env_remove("EXEAT_PRESET")
        .args(["bench", "--seconds", "0.05"])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn report(arguments: &[&str]) -> Value {
    let (code, out, err) = bench(&[arguments, &["--json"]].concat());
    assert_eq!(code, Some(0), "{err}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn every_class_of_every_matcher() {
    let report = report(&["--requirements", "config/presets/agent.toml"]);
    assert_eq!(report["rules"]["source"], "config/presets/agent.toml");
    assert_eq!((&report["rules"]["allow"], &report["rules"]["deny"]), (&194.into(), &0.into()));
    for seconds in ["compile_seconds", "table_seconds"] {
        assert!(report[seconds].as_f64().unwrap() > 0.0);
    }
    assert!(report["bytes_per_rule"].as_f64().unwrap() > 10.0);
    let matchers = report["matchers"].as_array().unwrap();
    let names: Vec<&Value> = matchers.iter().map(|matcher| &matcher["name"]).collect();
    assert_eq!(names, MATCHERS);
    for matcher in matchers {
        assert!(matcher["skipped"].is_null(), "{matcher}");
        assert_eq!(matcher["disagrees"], 0, "{matcher}");
        for class in CLASSES {
            let median = matcher[class]["ns_median"].as_f64().unwrap();
            assert!(median > 0.0 && matcher[class]["ns_p99"].as_f64().unwrap() >= median);
            assert!(report["hosts"][class].as_u64().unwrap() > 0);
        }
    }
}

#[test]
fn a_list_of_rules_and_a_list_of_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let (rules, hosts) = (dir.path().join("rules.txt"), dir.path().join("hosts.tsv"));
    fs::write(&rules, "# mine\n**.example.com\n\nads*.example.net # wild\n10.1.2.3\n").unwrap();
    let asked = "example.com\na.b.c.d.example.com\nx.example.com\thit\nother.example.net\nmiss.test\n\
                 not a host\nhttp://ads1.example.net/x\n";
    fs::write(&hosts, asked).unwrap();
    let (rules, hosts) = (rules.to_str().unwrap(), hosts.to_str().unwrap());
    let report = report(&["--rules", rules, "--hosts", hosts]);
    assert_eq!(report["rules"]["allow"], 3);
    let counts = CLASSES.map(|class| report["hosts"][class].as_u64().unwrap());
    assert_eq!(counts, [3, 0, 2, 1]);
    assert_eq!(report["hosts"]["invalid"], 1);
}

#[test]
fn the_picture_names_every_matcher() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cost.svg");
    let (code, out, err) = bench(&["--preset", "agent", "--plot", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("ns a decision") && err.is_empty(), "{out}{err}");
    let svg = fs::read_to_string(path).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    for name in MATCHERS {
        assert!(svg.contains(&format!(">{name}</text>")), "{name}");
    }
    assert_eq!(svg.matches("<polyline").count(), 2 * MATCHERS.len());
}

#[test]
fn what_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (rules, hosts) = (dir.path().join("rules.txt"), dir.path().join("hosts"));
    fs::write(&rules, "good.test\nhttps://bad.test/\n").unwrap();
    fs::write(&hosts, "not a host\n").unwrap();
    let (rules, hosts) = (rules.to_str().unwrap(), hosts.to_str().unwrap());
    let (code, _, err) = bench(&["--rules", rules]);
    assert_eq!(code, Some(78), "{err}");
    assert!(err.contains(&format!("{rules}:2")) && err.contains("scheme"), "{err}");
    for (arguments, code, said) in [
        (vec!["--rules", "/nowhere"], 78, "cannot read rules /nowhere"),
        (vec!["--preset", "agent", "--hosts", "/nowhere"], 78, "cannot read hosts /nowhere"),
        (vec!["--preset", "agent", "--hosts", hosts], 78, "has no host"),
        (vec!["--preset", "agent", "--rules", rules], 64, "cannot be used with"),
        (vec!["--preset", "agent", "--plot", "/nowhere/x.svg"], 69, "cannot write /nowhere"),
    ] {
        let (found, _, err) = bench(&arguments);
        assert_eq!(found, Some(code), "{arguments:?} {err}");
        assert!(err.contains(said), "{err}");
    }
}
