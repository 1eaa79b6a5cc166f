#!/usr/bin/env bash
# Foreign Thrift peers against this project's servers, and the other way round through etcd. Installs what it needs,
# generates their code from idl/, and prints the matrix of docs/interop.md. Needs Debian or Ubuntu, Go 1.24 or newer.
# usage: run.sh DIRECTORY-WITH-OUR-PROGRAMS
set -euo pipefail
ours=$(cd "$1" && pwd)
cd "$(dirname "$0")"
idl=../idl/idl_rpc.thrift
export GOFLAGS=-mod=readonly

packages=(curl default-jdk-headless etcd-server maven nodejs npm python3-venv thrift-compiler)
missing=()
have() { case $1 in default-jdk-headless) command -v javac ;; maven) command -v mvn ;; nodejs) command -v node ;;
    npm) command -v npm ;; python3-venv) python3 -c 'import ensurepip, venv' ;; etcd-server) command -v etcd ;;
    thrift-compiler) command -v thrift ;; *) command -v "$1" ;; esac >/dev/null 2>&1; }
for package in "${packages[@]}"; do have "$package" || missing+=("$package"); done
if [ ${#missing[@]} -gt 0 ]; then
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

work=$(mktemp -d)
pids=()
end() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap end EXIT
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
start() { # log, command…
    "${@:2}" >/dev/null 2>"$work/$1.log" &
    pids+=($!)
}
answers() { # port
    for _ in $(seq 300); do ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null || return 0; sleep 0.1; done
    echo "nothing answers on port $1"; tail "$work"/*.log; return 1
}

mkdir -p bin python/gen node/gen go/gen java/gen
thrift --gen py -out python/gen $idl
thrift --gen js:node -out node/gen $idl
thrift --gen go:package_prefix=interop/apache/gen/,skip_remote -out go/gen $idl
thrift --gen java:generated_annotations=suppress -out java/gen $idl
python3 -m venv python/venv && python/venv/bin/pip -q install -r python/requirements.txt
(cd node && npm ci --silent --no-audit --no-fund)
(cd go && go build -o ../bin/apache .)
(cd kitex && go build -o ../bin/generate github.com/cloudwego/kitex/tool/cmd/kitex &&
    go build -o ../bin/thriftgo github.com/cloudwego/thriftgo &&
    PATH=$PWD/../bin:$PATH ../bin/generate -no-dependency-check -module interop/kitex -gen-path kitex_gen ../$idl >/dev/null 2>&1 &&
    go build -o ../bin/kitex .)
(cd java && mvn -q -B compile) | sed 's/\x1b\[[0-9;]*m//g'

rpc=$(port)
start rpc "$ours/rpc-server" --rpc-addr "127.0.0.1:$rpc" --store "embedded:$work/data"
answers "$rpc"
echo "| client | protocol | transport | Send, Pull both ways, a caller's error, an unknown method |"
echo "|---|---|---|---|"
bin/kitex client "127.0.0.1:$rpc"
bin/apache "127.0.0.1:$rpc"
python/venv/bin/python python/client.py 127.0.0.1 "$rpc"
(cd node && node client.js 127.0.0.1 "$rpc")
(cd java && mvn -q -B exec:java -Dexec.mainClass=Client -Dexec.args="127.0.0.1 $rpc") | sed 's/\x1b\[[0-9;]*m//g'

etcd=$(port) peer=$(port) ours_rpc=$(port) theirs=$(port) http=$(port)
start etcd etcd --data-dir "$work/etcd" --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer"
answers "$etcd"
start ours "$ours/rpc-server" --rpc-addr "127.0.0.1:$ours_rpc" --store "embedded:$work/data2" --etcd "127.0.0.1:$etcd"
registered=$!
answers "$ours_rpc"
for _ in $(seq 50); do ! grep -q 'registered in etcd' "$work/ours.log" || break; sleep 0.1; done
bin/kitex client etcd "127.0.0.1:$etcd"
kill "$registered" && wait "$registered" # out of the registry, so that only Kitex's server is left

start theirs bin/kitex server "127.0.0.1:$theirs" "127.0.0.1:$etcd"
answers "$theirs"
start front "$ours/http-server" --http-addr "127.0.0.1:$http" --etcd "127.0.0.1:$etcd"
answers "$http"
for _ in $(seq 50); do ! curl -sf "http://127.0.0.1:$http/api/pull?chat=a:b" >/dev/null || break; sleep 0.1; done
curl -sf "http://127.0.0.1:$http/api/send" -d '{"chat":"a:b","text":"through etcd","sender":"a"}'
curl -sf "http://127.0.0.1:$http/api/pull?chat=a:b" | grep -q '"text":"through etcd"'
curl -s -w ' %{http_code}' "http://127.0.0.1:$http/api/send" -d '{"chat":"fail:fail","text":"x","sender":"fail"}' |
    grep -q 'an error of the handler.* 500$'
echo "| http-server before a Kitex server | Binary | TTHeader framed, found in etcd | passed |"
