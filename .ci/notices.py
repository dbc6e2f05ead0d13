#!/usr/bin/env python3
"""Prints the licence notices of the libraries in the binary.

usage: notices.py TARGET, in the project's directory, for example notices.py x86_64-unknown-linux-gnu

Takes the licence files of every crate in `cargo tree` for the target, without development and build dependencies and procedural
macros. Where a crate offers a choice with MIT in it, MIT's file is enough. A crate without a licence file gets the
usual text of MIT or Apache-2.0 with its authors' names; under any other licence that is an error. deny.toml decides which licences
are allowed at all.
"""
import re
import sys
from collections import defaultdict
from pathlib import Path

from linked import crates

LICENCE_FILE = re.compile(r"(LICEN[SC]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)([-._].*)?", re.IGNORECASE)


def texts(package):
    """The licence texts that the crate must be accompanied by."""
    directory = Path(package["manifest_path"]).parent
    files = [file for file in sorted(directory.iterdir()) if file.is_file() and LICENCE_FILE.fullmatch(file.name)]
    if package["license_file"]:
        files.append(directory / package["license_file"])
    mit = [file for file in files if "MIT" in file.name.upper()]
    if mit and re.search(r"\bMIT\b", package["license"] or "") and " AND " not in package["license"]:
        files = mit + [file for file in files if file.name.upper().startswith(("NOTICE", "COPYRIGHT"))]
    found = [file.read_text(errors="replace").strip("\n") for file in dict.fromkeys(files)]
    return found or [usual_text(package)]


def usual_text(package):
    """MIT's or Apache's text with the names of the crate's authors."""
    names = ", ".join(re.sub(r"\s*<[^>]*>", "", author) for author in package["authors"])
    owner = f"Copyright (c) {names or 'the authors of ' + package['name']}"
    licence = package["license"] or ""
    if re.search(r"\bMIT\b", licence):
        return re.sub(r"(?m)^Copyright .*$", owner, Path("LICENSE-MIT").read_text().strip("\n"))
    if re.search(r"\bApache-2\.0\b", licence):
        return f"{owner}\n\n" + Path("LICENSE-APACHE").read_text().strip("\n")
    sys.exit(f"{package['name']} {package['version']} ({licence}) has no licence file: {package['repository']}")


def main():
    users = defaultdict(list)
    for package in crates(sys.argv[1]):
        for text in texts(package):
            users[text].append(f"{package['name']} {package['version']} ({package['license']})")
    # Those of the page are made from the npm tarballs: tests/external/page/vendor.mjs.
    for notice in Path("src/web/page/vendor/LICENSES.txt").read_text().split("\n" + "-" * 80 + "\n"):
        name, _, text = notice.partition("\n\n")
        users[text.strip("\n")].append(name)
    print("qy-lty contains the libraries below, under the terms that follow their names.")
    for text, names in sorted(users.items(), key=lambda item: item[1]):
        print("\n" + "-" * 80)
        print("\n".join(names) + "\n")
        print(text)


if __name__ == "__main__":
    main()
