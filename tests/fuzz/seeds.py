#!/usr/bin/env python3
"""Makes seeds/ from tests/corpus: small ones, of every class of attack. Run it in tests/fuzz.

Files that it did not make (inputs that broke something) are left alone.
"""

import base64
import json
import pathlib
import re

CORPUS = pathlib.Path("../corpus")
SEEDS = pathlib.Path("seeds")
LARGEST = 1500


def rows(name):
    path = CORPUS / f"{name}.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def some(rows, each):
    """So many rows of every class, in their order."""
    count = {}
    for row in rows:
        key = row["class"], str(row["expect"])
        count[key] = count.get(key, 0) + 1
        if count[key] <= each:
            yield row


def write(target, name, content):
    if len(content) <= LARGEST:
        folder = SEEDS / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def decoded(row, key="bytes_b64"):
    return base64.b64decode(row[key])


for row in some(rows("host_forms"), 2):
    host = decoded(row, "input_b64")
    write("authority", row["id"], host if row["kind"] != "host" else host + b":443")
    if row["kind"] == "host":
        write("authority", row["id"] + "-url", b"http://" + host + b"/")

for row in some(rows("host_forms"), 1):
    host = decoded(row, "input_b64")
    if row["kind"] == "host":
        write("connection", row["id"], b"\0\x04CONNECT " + host + b":8080 HTTP/1.1\r\n\r\n")

# Greetings of SOCKS5: without authentication, and with a name and a password.
GREETINGS = [b"\5\1\0", b"\5\1\2\1\1u\1p"]
for number, row in enumerate(some(rows("host_forms"), 2)):
    host = decoded(row, "input_b64")
    greeting = GREETINGS[number % 2]
    if row["kind"] == "socks5_request":
        write("socks5", row["id"], b"\x40" + greeting + host)
        write("connection", row["id"], b"\0\x44" + greeting + host)
    elif row["kind"] == "host" and len(host) < 256:
        name = bytes([len(host)]) + host
        write("socks5", row["id"], b"\x40" + greeting + b"\5\1\0\3" + name + b"\x01\xbb")

for row in some(rows("tls_sni"), 2):
    first = decoded(row)
    write("client_hello", row["id"], b"\x40" + first)
    if row["mode"] == "connect":
        target = row["connect_host"].split(" ")[0].encode()
        head = b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n\r\n"
        write("connection", row["id"], b"\x40\x0c" + head + first)

for row in some(rows("smuggling"), 2):
    if row["direction"] == "request":
        write("connection", row["id"], b"\0\x04" + decoded(row))
        write("http_head", row["id"], b"\0" + decoded(row))
    else:
        write("http_head", row["id"], b"\1" + decoded(row, "upstream_bytes_b64"))

# On the port that everybody can have an origin on.
HTTP = b" HTTP/1.1\r\n"
OK = b"http://ok.test:8080/" + HTTP + b"Host: ok.test:8080\r\n"
IN_TUNNEL = b"CONNECT ok.test:8080" + HTTP + b"Host: ok.test:8080\r\n\r\n"
POST_IN_TUNNEL = b"POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 4\r\n\r\nbody"
UPGRADE = b"GET / HTTP/1.1\r\nHost: ok.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
for name, text in {
    "kept": (b"GET " + OK + b"\r\n") * 3,
    "length": b"POST " + OK + b"Content-Length: 5\r\n\r\nhello" + b"GET " + OK + b"\r\n",
    "chunks": b"POST " + OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "expects": b"POST " + OK + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    "upgrades": b"GET " + OK + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "then-refused": b"GET " + OK + b"\r\nGET http://evil.test:8080/" + HTTP + b"Host: evil.test:8080\r\n\r\n",
    "refused-body": b"POST http://denied.ok.test:8080/" + HTTP + b"Content-Length: 80\r\n\r\nGET " + OK,
    "tunnel": IN_TUNNEL + b"GET / HTTP/1.1\r\nHost: ok.test:8080\r\n\r\n",
    "tunnel-elsewhere": IN_TUNNEL + b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "tunnel-second": IN_TUNNEL + POST_IN_TUNNEL + b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n",
    "tunnel-second-elsewhere": IN_TUNNEL + POST_IN_TUNNEL + b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "tunnel-upgrade": IN_TUNNEL + UPGRADE + b"\x81\x81\0\0\0\0\n",
    "tunnel-upgrade-ignored": IN_TUNNEL + UPGRADE + b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "tunnel-lenient": IN_TUNNEL + b"\x0bG\xffT\xa0/\x85HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "tunnel-no-version": IN_TUNNEL + b"GET /\r\nHost: evil.test\r\n\r\n",
    "tunnel-raw": IN_TUNNEL + b"SSH-2.0-client\r\n",
    "other-port": b"CONNECT port.test:80" + HTTP + b"\r\nCONNECT port.test:8080" + HTTP + b"\r\n",
    "glob": b"GET http://build-1.glob.test:8080/" + HTTP + b"Host: build-1.glob.test:8080\r\n\r\n",
}.items():
    for number, how in enumerate([b"\0\x04", b"\x09\x05", b"\0\x07"]):
        write("connection", f"{name}-{number}", how + text)

IN_SOCKS = b"\5\1\0\5\1\0\3\7ok.test\x1f\x90"
for name, text in {
    "tunnel": IN_SOCKS + b"GET / HTTP/1.1\r\nHost: ok.test:8080\r\n\r\n",
    "elsewhere": IN_SOCKS + b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "raw": IN_SOCKS + b"SSH-2.0-client\r\n",
    "refused": b"\5\1\0\5\1\0\3\x09evil.test\x1f\x90SSH-2.0-client\r\n",
    "denied": b"\5\1\0\5\1\0\3\x0edenied.ok.test\x1f\x90SSH-2.0-client\r\n",
    "twice": IN_SOCKS + IN_SOCKS,
    "http": IN_TUNNEL,
}.items():
    for number, how in enumerate([b"\0\x44", b"\x01\x45", b"\0\x47"]):
        write("connection", f"socks-{name}-{number}", how + text)

for path in sorted((CORPUS / "policy_files").glob("*.toml")):
    text = path.read_bytes()
    write("document", path.stem, text)
    patterns = re.findall(rb'"([^"\n]+)"', text)
    asked = b"\n".join([b"a.example.com:443", b"example.com:80", b"10.0.0.1:80", b"[::1]:443"])
    for number, pattern in enumerate(patterns[:2]):
        write("pattern", f"{path.stem}-{number}", pattern + b"\n" + asked)
    signs = [b"-", b"+"] if b"denied" in text else [b"+", b"-"]
    rules = b"\n".join(signs[number % 2] + pattern for number, pattern in enumerate(patterns))
    write("decide", path.stem, rules + b"\n" + asked)
