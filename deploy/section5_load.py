#!/usr/bin/env python3
"""The load plan of the Go services' users: 20 threads x 10 loops within 10 s, each sending the same text to one chat,
with CRLF inside the JSON. All 200 must be acknowledged and stored. usage: section5_load.py [BASE_URL [CHAT]]"""
import json, sys, threading, time, urllib.request

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
CHAT = sys.argv[2] if len(sys.argv) > 2 else "stress1:stress2"
BODY = json.dumps({"chat": CHAT, "text": "an equal text", "sender": CHAT.split(":")[0]}, indent=4).replace("\n", "\r\n").encode()
THREADS, LOOPS, RAMP_S = 20, 10, 2


def request(method, path, body):
    r = urllib.request.Request(BASE + path, body, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(r, timeout=5) as answer:
        return answer.status, answer.read()


def stored():
    count, cursor = 0, 0
    while True:
        page = json.loads(request("GET", "/api/pull", json.dumps({"chat": CHAT, "cursor": cursor, "limit": 100}).encode())[1])
        count += len(page.get("messages", []))
        if not page.get("has_more"):
            return count
        cursor = page["next_cursor"]


def main():
    before, start, acknowledged, errors = stored(), time.monotonic(), [], []

    def thread(n):
        time.sleep(RAMP_S * n / THREADS)
        for _ in range(LOOPS):
            try: acknowledged.append(request("POST", "/api/send", BODY)[0] == 200)
            except OSError as e: errors.append(e)

    threads = [threading.Thread(target=thread, args=(n,)) for n in range(THREADS)]
    for t in threads: t.start()
    for t in threads: t.join()
    took, new = time.monotonic() - start, stored() - before
    print(f"{sum(acknowledged)} of {THREADS * LOOPS} acknowledged in {took:.1f} s, {new} stored", *errors[:3])
    sys.exit(not (sum(acknowledged) == new == THREADS * LOOPS and took < 10))


main()
