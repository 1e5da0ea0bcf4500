//! Who may import whom. An edge that is not in this table is a mistake in the design, or a change
//! of it that belongs here first.

#[path = "architecture/circles.rs"]
mod circles;

use std::{collections::BTreeSet, fs, path::Path};

/// A crate of ours, and the crates of ours that it may import.
const MAY_IMPORT: [(&str, &[&str]); 16] = [
    ("printable", &[]),
    ("protocol", &[]),
    ("wipe", &[]),
    ("web", &["protocol"]),
    ("seal", &["protocol", "wipe"]),
    ("attest", &["printable"]),
    ("guest-init", &[]),
    ("kernels", &[]),
    ("tlog", &[]),
    ("provenance", &[]),
    ("flux", &["protocol", "kernels"]),
    ("engine", &["protocol", "wipe", "flux"]),
    ("client", &["printable", "protocol", "seal", "attest"]),
    ("proxy", &["printable", "protocol", "wipe", "web", "seal", "attest", "client"]),
    ("node", &["protocol", "wipe", "web", "seal", "attest", "engine", "provenance"]),
    (
        "obscura",
        &[
            "printable",
            "protocol",
            "attest",
            "flux",
            "engine",
            "client",
            "proxy",
            "tlog",
            "provenance",
            "node",
        ],
    ),
];

/// Crates of others that only one of ours may import.
const ONLY_IN: [(&str, &str); 1] = [("hf-hub", "obscura")];

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let names: BTreeSet<String> = fs::read_dir(&crates)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        names,
        MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned()).collect(),
        "every crate has its row in the table, and every row its crate"
    );
    for (name, allowed) in MAY_IMPORT {
        let imports = imports(&crates.join(name).join("Cargo.toml"));
        for edge in allowed {
            assert!(
                imports.contains(*edge),
                "{name} may import {edge} and does not: the table is old"
            );
        }
        for import in &imports {
            assert!(
                !names.contains(import) || allowed.contains(&import.as_str()),
                "{name} must not import {import}"
            );
            for (other, only) in ONLY_IN {
                assert!(import != other || name == only, "{name} must not import {other}");
            }
        }
    }
}

/// Every dependency of a manifest: plain, for tests, for builds, for one target.
fn imports(manifest: &Path) -> BTreeSet<String> {
    fn collect(table: &toml::Table, imports: &mut BTreeSet<String>) {
        for (key, value) in table {
            let Some(inner) = value.as_table() else { continue };
            match key.as_str() {
                "dependencies" | "dev-dependencies" | "build-dependencies" => {
                    for (name, spec) in inner {
                        let renamed = spec.get("package").and_then(|package| package.as_str());
                        imports.insert(renamed.unwrap_or(name).to_owned());
                    }
                }
                "target" => inner
                    .values()
                    .filter_map(|target| target.as_table())
                    .for_each(|target| collect(target, imports)),
                _ => {}
            }
        }
    }
    let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    let mut found = BTreeSet::new();
    collect(&manifest, &mut found);
    found
}

/// Whoever builds for production gets no simulator, unless by asking for it.
#[test]
fn the_simulator_is_in_no_production_build() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let attest: toml::Table =
        fs::read_to_string(root.join("crates/attest/Cargo.toml")).unwrap().parse().unwrap();
    assert!(!attest["features"].as_table().unwrap().contains_key("default"));
    for name in ["client", "proxy", "node", "engine", "seal", "flux"] {
        let manifest = fs::read_to_string(root.join(format!("crates/{name}/Cargo.toml"))).unwrap();
        let (dependencies, _) =
            manifest.split_once("[dev-dependencies]").unwrap_or((&manifest, ""));
        assert!(!dependencies.contains("simulator"), "{name} enables the simulator");
    }
    let image = fs::read_to_string(root.join("Dockerfile.tdx")).unwrap();
    let build = image.lines().find(|line| line.contains("cargo build")).unwrap();
    assert!(build.contains("--locked") && build.contains("--no-default-features"));
    // Which features, the builder says. These it cannot say, nor another crate's.
    assert!(build.contains("--features \"$FEATURES\""));
    assert!(image.lines().any(|line| line == "ARG FEATURES=nvml"), "the features unless told");
    let refused = image.lines().find(|line| line.contains("case \"$FEATURES\" in")).unwrap();
    assert!(refused.contains("exit 1"));
    for feature in ["*simulator*", "*download*", "*otlp*", "*/*"] {
        let patterns = refused.split(" in ").nth(1).unwrap().split(')').next().unwrap();
        assert!(patterns.split('|').any(|pattern| pattern.trim() == feature), "{feature}");
    }
}
