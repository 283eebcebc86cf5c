//! The arrows between crates, as drawn in `crates/ARCHITECTURE.md`, against what their manifests say.

use super::{Finding, Place};

/// Each crate and the crates of ours that it may use. What stands in no row may use none of ours.
const ARROWS: &[(&str, &[&str])] = &[
    ("crates/sdk", &[]),
    ("crates/recovery", &[]),
    ("crates/telemetry", &[]),
    ("crates/alerts", &[]),
    ("crates/xtask", &[]),
    ("crates/engine", &["sdk"]),
    ("crates/store", &["sdk", "engine", "recovery", "alerts"]),
    ("crates/provider", &["recovery"]),
    ("crates/provider-kvm", &["provider", "recovery"]),
    ("crates/actions", &["provider", "recovery"]),
    ("crates/activities", &["sdk", "engine", "provider", "recovery", "workflows"]),
    ("workflows", &["sdk", "recovery"]),
    ("crates/api", &["sdk", "recovery", "alerts"]),
    ("crates/evidence", &["sdk", "engine", "recovery", "workflows"]),
    ("crates/simulation", &["sdk", "engine", "provider", "recovery", "activities", "workflows"]),
    ("crates/agent", &["api", "sdk", "engine", "actions", "activities", "provider", "provider-kvm", "recovery", "workflows", "telemetry"]),
    ("crates/cli", &["api", "server", "evidence", "simulation", "workflows", "recovery", "sdk", "telemetry", "alerts"]),
    (
        "crates/server",
        &["api", "sdk", "engine", "store", "evidence", "recovery", "provider", "activities", "workflows", "telemetry", "alerts"],
    ),
];

/// Suites may use whatever they test.
const TESTS: &str = "tests";

const OURS: [&str; 17] = [
    "sdk", "engine", "store", "recovery", "provider", "provider-kvm", "activities", "api", "server", "telemetry",
    "workflows", "cli", "agent", "alerts", "evidence", "simulation", "actions",
];

/// Crates that must do without an asynchronous runtime, and the start of the names that would bring one.
const PURE: [&str; 4] = ["crates/sdk", "crates/recovery", "crates/alerts", "workflows"];
const RUNTIMES: [&str; 3] = ["tokio", "async-std", "smol"];

pub(crate) fn check(place: &Place<'_>, text: &str, found: &mut Vec<Finding>) {
    let home = place.path.trim_end_matches("Cargo.toml").trim_end_matches('/');
    if home.is_empty() || home == TESTS || home.strip_prefix(TESTS).is_some_and(|inside| inside.starts_with('/')) {
        return;
    }
    let allowed = ARROWS.iter().find(|(name, _)| *name == home).map(|(_, uses)| *uses);
    if allowed.is_none() {
        found.push(place.at(1, "is a crate that the arrows in tidy do not know; draw it in crates/ARCHITECTURE.md first"));
    }
    for (line, name, for_tests) in dependencies(text) {
        let ours = OURS.contains(&name.as_str());
        if ours && !for_tests && !allowed.unwrap_or_default().contains(&name.as_str()) {
            found.push(place.at(line, &format!("{home} may not use {name} (crates/ARCHITECTURE.md)")));
        }
        if PURE.contains(&home) && !for_tests && RUNTIMES.iter().any(|runtime| name.starts_with(runtime)) {
            found.push(place.at(line, &format!("{home} is pure and may not use {name}")));
        }
    }
}

/// Dependencies with their line, and whether only the tests use them.
fn dependencies(manifest: &str) -> Vec<(usize, String, bool)> {
    let mut found = Vec::new();
    let mut section = "";
    for (at, line) in manifest.lines().map(str::trim).enumerate() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
            continue;
        }
        let listed = section.ends_with("dependencies") && !line.starts_with('#');
        let Some((key, _)) = line.split_once('=').filter(|_| listed) else { continue };
        let name = key.trim().split('.').next().unwrap_or_default().trim_matches('"').to_owned();
        found.push((at + 1, name, section.ends_with("dev-dependencies")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, manifest: &str) -> Vec<String> {
        let mut found = Vec::new();
        check(&Place { path }, manifest, &mut found);
        found.into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn an_arrow_that_is_drawn_is_allowed() {
        assert!(findings("crates/engine/Cargo.toml", "[dependencies]\nsdk.workspace = true\n").is_empty());
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_found() {
        let found = findings("crates/sdk/Cargo.toml", "[dependencies]\nstore.workspace = true\n");
        assert_eq!(found, ["crates/sdk/Cargo.toml:2: crates/sdk may not use store (crates/ARCHITECTURE.md)"]);
    }

    #[test]
    fn a_runtime_in_a_pure_crate_is_found() {
        let manifest = "[dependencies]\ntokio = { version = \"1\" }\n[dev-dependencies]\ntokio.workspace = true\n";
        assert_eq!(findings("workflows/Cargo.toml", manifest).len(), 1);
    }

    #[test]
    fn a_crate_that_nobody_drew_is_found() {
        assert_eq!(findings("crates/new/Cargo.toml", "[dependencies]\n").len(), 1);
    }
}
