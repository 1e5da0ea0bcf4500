#!/usr/bin/env python3
"""What is linked into the program, as a CycloneDX document on standard output.

    scripts/sbom.py > obscura.cdx.json
    scripts/sbom.py --features nvml --no-default-features     # as the guest's image is built

Of Cargo.lock, and of the files of other projects that lie in this repository (`vendored.json` beside them): versions,
digests and licences as the packages state them, and which needs which. The same sources make the same document.
"""

import json
import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = "x86_64-unknown-linux-gnu"
PROGRAM = "obscura"
# What is compiled in by a feature of a package: the package, the feature, and what says where it is from.
VENDORED = [("obscura-node", "docs", ROOT / "crates/node/src/routes/pages/swagger-ui/vendored.json")]


def main(features):
    metadata = cargo_metadata(features)
    packages = {package["id"]: package for package in metadata["packages"]}
    needs = {node["id"]: linked(node) for node in metadata["resolve"]["nodes"]}
    program = next(p["id"] for p in metadata["packages"] if p["name"] == PROGRAM and p["source"] is None)
    reached = reach(program, needs)
    checksums = lock_checksums()
    features_on = {node["id"]: node["features"] for node in metadata["resolve"]["nodes"]}
    vendored = [
        (id, json.loads(path.read_text(encoding="utf-8")))
        for name, feature, path in VENDORED
        for id in reached
        if packages[id]["name"] == name and feature in features_on[id]
    ]
    components = [component(packages[id], checksums) for id in reached if id != program]
    components += [vendored_component(found) for _, found in vendored]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": component(packages[program], checksums) | {"type": "application"},
            "properties": [
                {"name": "obscura:target", "value": TARGET},
                {"name": "obscura:features", "value": " ".join(features) or "default"},
            ],
        },
        "components": sorted(components, key=lambda part: part["bom-ref"]),
        "dependencies": sorted(
            (
                *(
                    {
                        "ref": purl(packages[id]),
                        "dependsOn": sorted(
                            {purl(packages[need]) for need in needs[id]}
                            | {npm_purl(found) for user, found in vendored if user == id}
                        ),
                    }
                    for id in reached
                ),
                *({"ref": npm_purl(found), "dependsOn": []} for _, found in vendored),
            ),
            key=lambda node: node["ref"],
        ),
    }
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
    print()


def cargo_metadata(features):
    command = [
        "cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET,
        "--manifest-path", str(ROOT / "crates" / PROGRAM / "Cargo.toml"), *features,
    ]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def linked(node):
    """What a package needs to be built and run; what its tests need is not in the program."""
    return [dep["pkg"] for dep in node["deps"] if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])]


def reach(start, needs):
    seen, todo = {start}, [start]
    while todo:
        for need in needs[todo.pop()]:
            if need not in seen:
                seen.add(need)
                todo.append(need)
    return seen


def lock_checksums():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    return {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}


def component(package, checksums):
    part = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if package["description"]:
        part["description"] = " ".join(package["description"].split())
    if package["license"]:
        # The form of before SPDX expressions had «OR».
        part["licenses"] = [{"expression": package["license"].replace("/", " OR ").replace("  ", " ")}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        part["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        part["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return part


def vendored_component(found):
    return {
        "type": "library",
        "bom-ref": npm_purl(found),
        "name": found["name"],
        "version": found["version"],
        "purl": npm_purl(found),
        "licenses": [{"expression": found["licence"]}],
        "hashes": [{"alg": "SHA-512", "content": found["package_sha512"]}],
        "externalReferences": [{"type": "vcs", "url": found["source"]}],
    }


def npm_purl(found):
    return f"pkg:npm/{found['name']}@{found['version']}"


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


if __name__ == "__main__":
    main(sys.argv[1:])
