//! Keeps the arrows between the modules pointing down, and the pure ones pure.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test may fail")]

use std::{collections::BTreeSet, fs, path::Path};

/// Every top-level module, lowest first, with the modules it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("net", &[]),
    ("http1", &["net"]),
    ("socks5", &["net"]),
    ("policy", &["net"]),
    ("requirements", &["net", "policy"]),
    ("settings", &["net", "policy", "requirements"]),
    ("observe", &["net", "policy", "requirements", "settings"]),
    ("source", &["net", "policy", "requirements", "settings"]),
    ("dns", &["net", "policy", "requirements", "settings"]),
    ("tls", &["net"]),
    ("confine", &[]),
    ("upstream", &["net", "http1", "policy", "settings", "dns"]),
    (
        "proxy",
        &["net", "http1", "socks5", "policy", "settings", "observe", "dns", "tls", "upstream"],
    ),
    ("jail", &["net", "confine"]),
    (
        "app",
        &[
            "net",
            "policy",
            "requirements",
            "settings",
            "observe",
            "source",
            "dns",
            "confine",
            "upstream",
            "proxy",
        ],
    ),
    ("cli", &["net", "policy", "requirements", "settings", "observe", "source", "jail", "app"]),
];

/// What the pure modules never name.
const PURE: &[&str] = &["net", "http1", "socks5", "policy", "requirements"];
const IMPURE_PATHS: &[&str] = &[
    "tokio::",
    "hyper::",
    "rustls::",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "UdpSocket",
    "SystemTime::now",
    "Instant::now",
    "println!",
    "tracing::",
];

#[test]
fn arrows_point_down() {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    visit(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut |path, text| {
        let relative = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
        let Some(module) = relative.iter().next().and_then(|m| m.to_str()) else { return };
        let module = module.trim_end_matches(".rs");
        if !text.starts_with("//!") {
            faults.push(format!("{}: does not begin with a `//!` line", relative.display()));
        }
        if matches!(module, "lib" | "main") {
            return;
        }
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("{}: `{module}` is not in MAY_IMPORT", relative.display()));
            return;
        };
        seen.insert(module.to_owned());
        for named in crate_paths(text) {
            if named != module && !allowed.contains(&named) {
                faults.push(format!("{}: `{module}` may not import `{named}`", relative.display()));
            }
        }
        if PURE.contains(&module) {
            for word in IMPURE_PATHS.iter().filter(|word| text.contains(**word)) {
                faults.push(format!("{}: pure, yet names `{word}`", relative.display()));
            }
        }
    });
    for (name, _) in MAY_IMPORT {
        assert!(seen.contains(*name), "MAY_IMPORT lists `{name}`, which is gone");
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The first segment after each `crate::`, braces opened.
fn crate_paths(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (_, rest) in text.match_indices("crate::").map(|(at, _)| text.split_at(at + 7)) {
        let Some(inside) = rest.strip_prefix('{') else {
            found.extend(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next());
            continue;
        };
        let mut depth = 0_usize;
        let mut start = 0;
        for (at, c) in inside.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    found.push(first_word(&inside[start..at]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.push(first_word(&inside[start..at]));
                    start = at + 1;
                }
                _ => {}
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn first_word(item: &str) -> &str {
    item.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")
}

fn visit(dir: &Path, f: &mut impl FnMut(&Path, &str)) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            visit(&path, f);
        } else if path.extension().is_some_and(|e| e == "rs") {
            f(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}
