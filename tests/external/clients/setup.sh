#!/usr/bin/env bash
# Installs the libraries of the clients and compiles them. usage: setup.sh DIRECTORY
# Needs python3 with venv, npm, javac, g++, Debian's libokhttp-java and libboost-dev.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"

for version in '' -10; do
    [ -x "python$version/bin/pip" ] || python3 -m venv "python$version"
    "python$version/bin/pip" install --quiet --disable-pip-version-check -r "$here/python/requirements$version.txt"
done

mkdir -p node java
cp "$here"/node/* node
(cd node && npm install --silent --no-audit --no-fund)

javac -d java -cp /usr/share/java/okhttp.jar "$here"/java/*.java
if ! [ beast -nt "$here/cpp/beast.cpp" ]; then g++ -o beast "$here/cpp/beast.cpp" -pthread; fi
