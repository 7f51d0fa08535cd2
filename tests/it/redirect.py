"""Leads TCP of this network namespace to a port: all but loopback's and that of one user.

table ip exeat { chain out { type nat hook output priority -100;
    meta skuid != USER ip daddr != 127.0.0.0/8 meta l4proto tcp redirect to :PORT } }
and the same for IPv6 and ::1. Messages of linux/netfilter/nf_tables.h; exit 3 if the kernel has none.
"""

import socket
import struct
import sys

USER, PORT = int(sys.argv[1]), int(sys.argv[2])
NESTED, REQUEST, ACK, CREATE = 0x8000, 1, 4, 0x400
NETFILTER, NF_TABLES = 12, 10


def attribute(kind, value):
    data = struct.pack("=HH", 4 + len(value), kind) + value
    return data + bytes(-len(data) % 4)


def number(kind, value):
    return attribute(kind, struct.pack("!I", value))


def data(kind, value):
    return attribute(kind | NESTED, attribute(1, value))


def expression(name, *attributes):
    return attribute(1 | NESTED, attribute(1, name + b"\0") + attribute(2 | NESTED, b"".join(attributes)))


def message(kind, flags, body):
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def rules(family, offset, loopback):
    head = struct.pack("!BBH", family, 0, 0)
    table, chain = b"exeat\0", b"out\0"
    hook = number(1, 3) + attribute(2, struct.pack("!i", -100))
    expressions = [
        expression(b"meta", number(1, 1), number(2, 10)),
        expression(b"cmp", number(1, 1), number(2, 1), data(3, struct.pack("=I", USER))),
        expression(b"payload", number(1, 1), number(2, 1), number(3, offset), number(4, len(loopback))),
        expression(b"cmp", number(1, 1), number(2, 1), data(3, loopback)),
        expression(b"meta", number(1, 1), number(2, 16)),
        expression(b"cmp", number(1, 1), number(2, 0), data(3, b"\6")),
        expression(b"immediate", number(1, 1), data(2, struct.pack("!H", PORT))),
        expression(b"redir", number(1, 1)),
    ]
    part = lambda kind, flags, body: message(NF_TABLES << 8 | kind, REQUEST | CREATE | flags, head + body)
    return (
        part(0, 0, attribute(1, table))
        + part(3, 0, attribute(1, table) + attribute(3, chain) + attribute(4 | NESTED, hook) + attribute(7, b"nat\0"))
        + part(6, ACK, attribute(1, table) + attribute(2, chain) + attribute(4 | NESTED, b"".join(expressions)))
    )


for family, offset, loopback in [
    (socket.AF_INET, 16, b"\x7f"),
    (socket.AF_INET6, 24, bytes(15) + b"\1"),
]:
    limits = struct.pack("!BBH", 0, 0, NF_TABLES)
    batch = message(0x10, REQUEST, limits) + rules(family, offset, loopback) + message(0x11, REQUEST, limits)
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
    netlink.send(batch)
    answer = netlink.recv(4096)
    kind, = struct.unpack_from("=H", answer, 4)
    error, = struct.unpack_from("=i", answer, 16)
    if kind != 2 or error != 0:
        print(f"no redirect for family {family}: {kind} {error}", file=sys.stderr)
        sys.exit(3)
