#!/usr/bin/env bash
# Sets up a bare Debian or Ubuntu machine and runs every check and test. Run it again at any time.
set -euo pipefail
cd "$(dirname "$0")"

# gcc and make build; redis-server, etcd, faketime, openssl and prlimit (util-linux) are what tests start.
packages=(build-essential ca-certificates curl etcd-server libfaketime openssl procps python3 redis-server util-linux)
if ! dpkg --status "${packages[@]}" >/dev/null 2>&1; then
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get update -qq
    # The tests start servers of their own; the package's service is not wanted.
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

export PATH="$HOME/.cargo/bin:$PATH"
if ! command -v cargo >/dev/null; then
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none
fi
cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-deny@0.20.2

make check
