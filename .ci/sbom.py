#!/usr/bin/env python3
"""Prints the software bill of materials of the binary: CycloneDX 1.6, JSON.

usage: sbom.py TARGET, in the project's directory, for example sbom.py x86_64-unknown-linux-gnu

Lists the program, the crates that are linked into it and the packages that its page is made of, with licence, checksum and what depends on what. Tools that go by
`cargo metadata` alone also list crates of optional features that are never built, another TLS library among them.
"""
import json
import os
import sys
import tomllib
from datetime import datetime, timezone
from pathlib import Path

from linked import crates


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksums):
    found = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "description": (package["description"] or "").strip(),
        "scope": "required",
        "purl": reference(package),
    }
    if checksum := checksums.get((package["name"], package["version"])):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["license"]:
        # Old manifests have a slash for OR, which SPDX does not know.
        found["licenses"] = [{"expression": package["license"].replace(" / ", "/").replace("/", " OR ")}]
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def page_components():
    """The packages that the page's files are made of: see src/web/page/vendor/manifest.json."""
    packages = json.loads(Path("src/web/page/vendor/manifest.json").read_text())["packages"]
    for package in packages:
        purl = f"pkg:npm/{package['name'].replace('@', '%40')}@{package['version']}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": package["name"],
            "version": package["version"],
            "scope": "required",
            "purl": purl,
            "licenses": [{"expression": package["licence"]}],
            "properties": [{"name": "tarball:sha256", "value": package["sha256"]}],
        }


def main():
    target = sys.argv[1]
    lock = tomllib.loads(Path("Cargo.lock").read_text())["package"]
    manifest = tomllib.loads(Path("Cargo.toml").read_text())["package"]
    checksums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in lock}
    packages = crates(target)
    known = {(package["name"], package["version"]) for package in packages}
    versions = {}
    for name, version in known:
        versions.setdefault(name, []).append(version)

    def dependencies(name, version):
        """The linked crates that a package depends on; the lock file names a version only where there are several."""
        entry = next(e for e in lock if (e["name"], e["version"]) == (name, version))
        named = [(*line.split(), None)[:2] for line in entry.get("dependencies", [])]
        pairs = {(n, v) for n, only in named for v in versions.get(n, []) if only in (None, v)}
        return sorted(f"pkg:cargo/{n}@{v}" for n, v in pairs)

    program = {
        "type": "application",
        "bom-ref": reference(manifest),
        "name": manifest["name"],
        "version": manifest["version"],
        "description": manifest["description"],
        "licenses": [{"expression": manifest["license"]}],
        "purl": reference(manifest),
        "properties": [{"name": "target", "value": target}],
    }
    page = list(page_components())
    graph = {reference(package): dependencies(package["name"], package["version"]) for package in [manifest, *packages]}
    graph[reference(manifest)] = sorted([*graph[reference(manifest)], *(one["bom-ref"] for one in page)])
    graph.update({one["bom-ref"]: [] for one in page})
    moment = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), timezone.utc)
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": program},
        "components": [*(component(package, checksums) for package in packages), *page],
        "dependencies": [{"ref": ref, "dependsOn": parts} for ref, parts in graph.items()],
    }
    print(json.dumps(bill, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
