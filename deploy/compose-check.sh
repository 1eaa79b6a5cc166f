#!/usr/bin/env bash
# Shows that docker-compose.yml serves from a clean clone: four services up, the Go services' load plan, a Redis that
# is killed. Runs as root on Debian or Ubuntu, on a Docker daemon of its own that ends with it. Where images cannot be
# pulled, it stands in for the base images with ones made of Debian's packages and the machine's Rust, under the real
# names. COMPOSE="docker compose" takes compose v2.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/compose-check.XXXXXX")
export DOCKER_HOST=unix://$work/docker.sock
compose=${COMPOSE:-docker-compose}

apt-get install -y -qq --no-install-recommends docker.io docker-compose debootstrap iptables >/dev/null

# Daemons that the package started are none of ours.
dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" \
    --storage-driver overlay2 >"$work/dockerd.log" 2>&1 &
dockerd=$!
end() {
    local code=$?
    if [ -d "$work/clone" ]; then
        [ "$code" = 0 ] || (cd "$work/clone" && $compose ps && $compose logs --tail 20) || true
        (cd "$work/clone" && $compose down --volumes --timeout 5 >/dev/null 2>&1) || true
    fi
    kill "$dockerd" && wait "$dockerd" || true
    rm -rf "$work"
}
trap end EXIT
for _ in $(seq 100); do
    ! docker info >/dev/null 2>&1 || break
    kill -0 "$dockerd" || { cat "$work/dockerd.log"; exit 1; }
    sleep 0.2
done

# --- base images --------------------------------------------------------------------------------------------------

have() { docker image inspect "$1" >/dev/null 2>&1 || timeout 60 docker pull --quiet "$1" 2>/dev/null; }

debian() { # directory, packages: a minimal Debian
    debootstrap --variant=minbase --include="$2" bookworm "$1" >"$work/debootstrap.log" ||
        { tail "$work/debootstrap.log"; exit 1; }
    rm -rf "$1"/var/cache/apt/*
}

image() { # directory, name, changes…: a directory as an image
    local dir=$1 name=$2
    shift 2
    tar -C "$dir" -c . | docker import "$@" - "$name" >/dev/null
    rm -rf "$dir"
    echo "stand-in for $name"
}

rust_image() {
    local dir=$work/rust toolchain
    toolchain=$(rustc +1.95.0 --print sysroot)
    debian "$dir" gcc,libc6-dev,ca-certificates
    mkdir -p "$dir/usr/local/rust" "$dir/usr/local/cargo"
    cp -a "$(readlink -f "$toolchain")/." "$dir/usr/local/rust"
    rm -rf "$dir/usr/local/rust/share/doc"
    (cd "$root" && cargo vendor --locked --quiet "$dir/usr/local/cargo/vendor" >/dev/null)
    cat >"$dir/usr/local/cargo/config.toml" <<'EOF'
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "/usr/local/cargo/vendor"
EOF
    image "$dir" rust:1.95.0-slim-bookworm -c 'ENV PATH=/usr/local/rust/bin:/usr/bin:/bin' -c 'ENV CARGO_HOME=/usr/local/cargo'
}

have debian:bookworm-slim || { debian "$work/debian" apt; image "$work/debian" debian:bookworm-slim; }
have redis:7.4-bookworm || { debian "$work/redis" redis-server; image "$work/redis" redis:7.4-bookworm -c 'WORKDIR /data'; }
have quay.io/coreos/etcd:v3.5.21 || { debian "$work/etcd" etcd-server; image "$work/etcd" quay.io/coreos/etcd:v3.5.21; }
have rust:1.95.0-slim-bookworm || rust_image

# --- the check ----------------------------------------------------------------------------------------------------

up() { $compose ps | grep -cE 'Up|running' || true; }
wait_until_it_serves() {
    for _ in $(seq 150); do
        ! curl -sf 'http://127.0.0.1:8080/api/pull?chat=a:b' >/dev/null || return 0
        sleep 0.2
    done
    echo "it does not serve"
    return 1
}

git clone --quiet "$root" "$work/clone"
cd "$work/clone"
$compose up -d --build >"$work/up.log" 2>&1 || { tail -40 "$work/up.log"; exit 1; }
wait_until_it_serves
deploy/section5_load.py http://127.0.0.1:8080
[ "$(up)" = 4 ] || { $compose ps; exit 1; }
echo "four services up"

$compose kill -s KILL redis >/dev/null 2>&1
curl -s -o /dev/null -w 'while Redis is away: %{http_code} after %{time_total} s\n' \
    -X POST http://127.0.0.1:8080/api/send -d '{"chat":"a:b","text":"x","sender":"a"}'
$compose start redis >/dev/null 2>&1
wait_until_it_serves
deploy/section5_load.py http://127.0.0.1:8080
total=$(curl -s "http://127.0.0.1:8080/api/pull?chat=stress1:stress2&limit=1000" | grep -o send_time | wc -l)
[ "$total" = 400 ] || { echo "$total messages, 400 expected"; exit 1; }
[ "$(up)" = 4 ] || { $compose ps; exit 1; }
restarts=$(docker inspect --format '{{.RestartCount}}' $($compose ps -q rpc-server http-server etcd))
[ -z "$(echo "$restarts" | grep -v '^0$')" ] || { echo "restarted: $restarts"; exit 1; }
echo "compose: 400 of 400 messages over a killed Redis, four services up, none restarted"
