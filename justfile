# The steps of .ci/run as recipes, and short ways to what is done often. `pip install rust-just` installs just.

# Lists the recipes.
default:
    @just --list --unsorted

# Runs every step, as CI does.
ci:
    .ci/run

# Runs every step in its long form; takes hours.
full:
    .ci/run --full

# Runs the tests whose name contains NAME.
one NAME:
    cargo test {{ NAME }}

# Formats the code.
fmt:
    cargo fmt
    cargo fmt --manifest-path fuzz/Cargo.toml

# Prints the version of the toolchain and compares it with Cargo.toml.
toolchain:
    .ci/run toolchain

# Checks the formatting.
format:
    .ci/run format

# Checks the spelling.
typos:
    .ci/run typos

# Checks that every step has a recipe here.
recipes:
    .ci/run recipes

# Checks the source of the page: vendored files, types, both languages, sizes.
page_source:
    .ci/run page_source

# Runs clippy.
lint:
    .ci/run lint

# Runs all tests of the code.
test:
    .ci/run test

# Runs a cluster's log on real servers.
cluster:
    .ci/run cluster

# Builds the documentation, private items included.
docs:
    .ci/run docs

# Checks the dependencies: licences, bans, sources, advisories.
dependencies:
    .ci/run dependencies

# Fuzzes every target, FUZZ_SECONDS each.
fuzz:
    .ci/run fuzz

# Runs the Autobahn suite.
autobahn:
    .ci/run autobahn

# Builds the release binary and checks its size.
release:
    .ci/run release

# Checks the systemd units.
units:
    .ci/run units

# Runs the systemd units in a container.
service:
    .ci/run service

# Makes tarball, Debian package, checksums and bill of materials in target/dist.
dist:
    .ci/run dist

# Installs, upgrades, restores and purges the Debian package.
package:
    .ci/run package

# Installs the tarball into an empty directory and runs it.
tarball:
    .ci/run tarball

# Tests the page in Chromium.
page:
    .ci/run page

# Checks the documents of docs/api, and calls every operation at random.
api:
    .ci/run api

# Replays the exchanges recorded from the original system.
conformance:
    .ci/run conformance

# Runs real client libraries against the binary.
clients:
    .ci/run clients

# Checks the client packages, and runs them through bad networks.
packages:
    .ci/run packages

# Runs the recipes of docs/clients.md.
doc_recipes:
    .ci/run doc_recipes

# Chats with the models of LiteLLM's proxy.
models:
    .ci/run models

# Imports what a real Django dumps, and lets its clients go on.
migration:
    .ci/run migration

# Tries the binary on a disk that lies.
faults:
    .ci/run faults

# Runs crashes, power cuts and random cases in their long forms.
stress:
    .ci/run stress
