"""The crates that are linked into the binary."""
import json
import subprocess


def crates(target):
    """The packages that are linked into the binary, without the program itself."""
    # The metadata also lists what only optional features would bring in; the tree does not.
    tree = ["cargo", "tree", "--locked", "--edges=normal,no-proc-macro", f"--target={target}", "--prefix=none", "--format={p}"]
    linked = {tuple(line.split()[:2]) for line in output(tree).splitlines() if line}
    metadata = json.loads(output(["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={target}"]))
    packages = [package for package in metadata["packages"] if (package["name"], f"v{package['version']}") in linked]
    return sorted((p for p in packages if p["source"]), key=lambda package: (package["name"], package["version"]))


def output(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
