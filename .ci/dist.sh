#!/usr/bin/env bash
# Makes what is published, for the machine it runs on, in target/dist: a tarball, the Debian package, a bill of materials
# (CycloneDX) and their checksums. Needs python3 and cargo-deb 3.8. usage: .ci/dist.sh
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
target=$(rustc -vV | sed -n 's/^host: //p')
name=qy-lty-$version
out=target/dist
stage=target/dist-stage # what both have in common; Cargo.toml names it

rm -rf "$out" "$stage"
mkdir -p "$out" "$stage"/{man,completions}

cargo build --locked --release
# The same sources give the same archive. Set after the build, since ring is built anew for another date.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
binary=target/release/qy-lty
python3 .ci/notices.py "$target" >"$stage/THIRD-PARTY-NOTICES"
"$binary" completions bash >"$stage/completions/qy-lty"
"$binary" completions zsh >"$stage/completions/_qy-lty"
"$binary" completions fish >"$stage/completions/qy-lty.fish"
"$binary" man "$stage/man" >/dev/null

# Laid out like a prefix: unpacked into /usr/local, everything is where it is looked for.
root=$stage/$name
install -Dm 755 "$binary" "$root/bin/qy-lty"
install -Dm 644 -t "$root/lib/systemd/system" systemd/qy-lty.{service,socket}
sed -i -e 's#/usr/bin/qy-lty#/usr/local/bin/qy-lty#; s#file:///usr/share#file:///usr/local/share#' "$root"/lib/systemd/system/qy-lty.*
install -Dm 644 -t "$root/share/bash-completion/completions" "$stage/completions/qy-lty"
install -Dm 644 -t "$root/share/zsh/site-functions" "$stage/completions/_qy-lty"
install -Dm 644 -t "$root/share/fish/vendor_completions.d" "$stage/completions/qy-lty.fish"
install -Dm 644 -t "$root/share/man/man1" "$stage"/man/*.1
install -Dm 644 -t "$root/share/doc/qy-lty" README.md README.zh-CN.md CHANGELOG.md SECURITY.md LICENSE-MIT LICENSE-APACHE "$stage/THIRD-PARTY-NOTICES"
install -Dm 644 -t "$root/share/doc/qy-lty/docs" docs/*.md # as in the repository, so that the links of README.md work
install -Dm 644 -t "$root/share/doc/qy-lty/docs/zh" docs/zh/*.md
install -Dm 644 -t "$root/share/doc/qy-lty/docs/api" docs/api/*.json
install -Dm 644 -t "$root/share/doc/qy-lty/docs/monitoring" docs/monitoring/*
install -Dm 644 -t "$root/share/doc/qy-lty/docs/curves" docs/curves/*
install -Dm 644 -t "$root/share/doc/qy-lty/docs/images" docs/images/*
install -Dm 644 -t "$root/share/doc/qy-lty/examples" systemd/config.toml
tar --create --gzip --file "$out/$name-$target.tar.gz" --directory "$stage" \
    --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" "$name"

cargo deb --locked --no-build --quiet --output "$out/"
python3 .ci/sbom.py "$target" >"$out/$name-$target.cdx.json"
(cd "$out" && sha256sum -- * >"$OLDPWD/$stage/SHA256SUMS" && mv "$OLDPWD/$stage/SHA256SUMS" .)
ls -l "$out"
