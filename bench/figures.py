#!/usr/bin/env python3
"""Measures the servers with wrk on 127.0.0.1 and prints a Markdown table: throughput, latency, CPU time per request
and process, resident memory. Needs release builds, redis-server and wrk. usage: figures.py [SECONDS a row, 5]"""
import json, os, re, resource, signal, socket, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
TICK = os.sysconf("SC_CLK_TCK")


class Process:
    """A server, and what the system knows of it. Ended with the `with` block."""

    def __init__(self, name, args, ready=None):
        self.name, self.started = name, time.monotonic()
        self.p = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if not ready else subprocess.DEVNULL)
        if ready:
            wait_for_port(ready)
        else:  # our servers say in their log where they listen
            self.addrs = next(json.loads(line) for line in self.p.stderr if b'"message":"serving"' in line)
        self.start_ms = (time.monotonic() - self.started) * 1e3

    def __enter__(self): return self
    def __exit__(self, *_): self.p.send_signal(signal.SIGKILL); self.p.wait()
    def cpu_s(self):
        fields = open(f"/proc/{self.p.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK
    def rss_mb(self):
        return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{self.p.pid}/status").read())[1]) / 1024


def wait_for_port(port):
    for _ in range(500):
        try: return socket.create_connection(("127.0.0.1", port)).close()
        except OSError: time.sleep(0.01)
    sys.exit(f"nothing listens on port {port}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0)); return s.getsockname()[1]


def ours(program, *args):
    return Process(program, [f"{ROOT}/target/release/{program}", *args])


def wrk(url, script, connections, seconds):
    out = subprocess.run(["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", f"{ROOT}/bench/{script}", url],
                         capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out: sys.exit(out)
    latency = {p: l for p, l in re.findall(r"^\s+(50|99)(?:\.000)?%\s+(\S+)", out, re.M)}
    return int(re.search(r"(\d+) requests in", out)[1]), float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), latency


def rows(title, http, processes):
    url = f"http://{http.replace('0.0.0.0', '127.0.0.1')}"
    wrk(url, "send.lua", 20, 1)  # connections and caches warm
    for script in ("send.lua", "pull.lua"):
        for connections in (20, 128):
            before = [p.cpu_s() for p in processes]
            requests, rate, latency = wrk(url, script, connections, SECONDS)
            cpu = ", ".join(f"{p.name} {(p.cpu_s() - b) / requests * 1e6:.0f}" for p, b in zip(processes, before))
            print(f"| {title} | {script[:4]} x {connections} | {rate:,.0f}/s | {latency['50']} | {latency['99']} | {cpu} |", flush=True)
    wrk(url, "send.lua", 1000, SECONDS)
    print(f"| {title} | memory after 1,000 connections | | | | " + ", ".join(f"{p.name} {p.rss_mb():.0f} MB" for p in processes) + " |", flush=True)


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    print("| servers | load | throughput | p50 | p99 | CPU per request, us |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as tmp:
        port = free_port()
        with Process("redis", ["redis-server", "--port", str(port), "--save", "", "--stream-node-max-bytes", "2048"], ready=port) as redis, \
             ours("rpc-server", "--rpc-addr", "127.0.0.1:0", "--store", f"redis://127.0.0.1:{port}") as rpc, \
             ours("http-server", "--http-addr", "127.0.0.1:0", "--rpc-target", rpc.addrs["rpc"]) as http:
            rows("pair on Redis", http.addrs["http"], [http, rpc, redis])
            info = subprocess.run(["redis-cli", "-p", str(port), "info", "memory"], capture_output=True, text=True).stdout
            used = int(re.search(r"used_memory_dataset:(\d+)", info)[1])
            count = subprocess.run(["redis-cli", "-p", str(port), "eval", "local n=0 for _,k in ipairs(redis.call('KEYS','im:*')) do n=n+redis.call('XLEN',k) end return n", "0"],
                                   capture_output=True, text=True).stdout
            print(f"| pair on Redis | Redis memory | | | | {used / int(count):.0f} bytes a message of 60 |")
        with ours("im", "serve", "--rpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--store", f"embedded:{tmp}/data") as im:
            start_ms = im.start_ms
            rows("im serve, embedded", im.addrs["http"], [im])
        print(f"| im serve, embedded | start to serving | {start_ms:.0f} ms | | | |")


main()
