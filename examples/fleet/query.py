#!/usr/bin/env python3
"""Reads the events of all hosts of a fleet from its stream. Needs Python alone.

  query.py --servers 127.0.0.1:4222 --filter 'fleet.*.*.process.exec'     print these events as JSON lines
  query.py --servers 127.0.0.1:4222 --by host.name,container.name         count them by these fields
  query.py --servers 127.0.0.1:4222 --count                               number of events that match the filter
  query.py --servers 127.0.0.1:4222 --check                               check order and duplicates of each host
  query.py --servers 127.0.0.1:4222 --leader                              the node that leads the stream
"""

import argparse
import collections
import json
import os
import socket
import sys

# Messages requested at a time.
BATCH = 1000


class Nats:
    """The part of the NATS protocol that reading needs."""

    def __init__(self, servers, timeout=10):
        for server in servers:
            host, port = server.removeprefix("nats://").rsplit(":", 1)
            try:
                self.socket = socket.create_connection((host, int(port)), timeout)
                break
            except OSError as error:
                failure = error
        else:
            raise SystemExit(f"no server is reachable: {failure}")
        self.file = self.socket.makefile("rb")
        self.inbox = f"_INBOX.query{os.getpid()}"
        options = {"verbose": False, "headers": True, "no_responders": True, "lang": "python", "version": "1"}
        self.send(f"CONNECT {json.dumps(options)}\r\nSUB {self.inbox}.> 1\r\n".encode())

    def send(self, data):
        self.socket.sendall(data)

    def message(self):
        """Returns the next message: subject, reply subject, headers as bytes, payload."""
        while True:
            try:
                words = self.file.readline().split()
            except TimeoutError:
                raise SystemExit("no answer: the stream may have no leader") from None
            if not words:
                raise SystemExit("the server closed the connection")
            if words[0] == b"PING":
                self.send(b"PONG\r\n")
            elif words[0] == b"-ERR":
                raise SystemExit(f"the server says: {b' '.join(words[1:]).decode()}")
            elif words[0] in (b"MSG", b"HMSG"):
                with_headers = words[0] == b"HMSG"
                sizes = [int(word) for word in words[-2 if with_headers else -1 :]]
                reply = words[3] if len(words) == (6 if with_headers else 5) else None
                body = self.file.read(sizes[-1] + 2)[:-2]
                split = sizes[0] if with_headers else 0
                return words[1].decode(), reply, body[:split], body[split:]

    def ask(self, subject, question):
        """Sends a request to the JetStream API and returns the response."""
        body = json.dumps(question).encode()
        self.send(f"PUB {subject} {self.inbox}.api {len(body)}\r\n".encode() + body + b"\r\n")
        _, _, _, answer = self.message()
        if not answer:
            raise SystemExit("JetStream is not enabled on this server")
        answer = json.loads(answer)
        if "error" in answer:
            raise SystemExit(f"JetStream says: {answer['error']['description']}")
        return answer

    def consumer(self, stream, subjects):
        """Creates a consumer that ends with the connection. Returns its name and its pending messages."""
        config = {
            "deliver_policy": "all",
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": subjects,
            "mem_storage": True,
            "num_replicas": 1,
        }
        made = self.ask(f"$JS.API.CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
        return made["name"], made["num_pending"]

    def read(self, stream, subjects):
        """Yields every message now in the stream: sequence, id, payload."""
        (consumer, left), asked = self.consumer(stream, subjects), 0
        more = json.dumps({"batch": BATCH, "expires": 5_000_000_000}).encode()
        while left:
            if asked == 0:
                to = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
                self.send(f"PUB {to} {self.inbox}.data {len(more)}\r\n".encode() + more + b"\r\n")
                asked = BATCH
            _, reply, headers, payload = self.message()
            if not (reply or b"").startswith(b"$JS.ACK."):
                # Not a message of the stream: the request has expired.
                asked = 0
                continue
            asked -= 1
            # Later messages are left for the next run.
            left -= 1
            tokens = reply.decode().split(".")
            ids = [line[12:].strip() for line in headers.split(b"\r\n") if line.lower().startswith(b"nats-msg-id:")]
            yield int(tokens[5]), ids[0].decode() if ids else "", payload


def field(event, name):
    for part in name.split("."):
        event = event.get(part) if isinstance(event, dict) else None
    return "-" if event is None else str(event)


def count(messages, fields):
    counts = collections.Counter()
    for _, _, payload in messages:
        event = json.loads(payload)
        counts[tuple(field(event, name) for name in fields)] += 1
    print("\t".join([*fields, "events"]))
    for values, number in sorted(counts.items()):
        print("\t".join([*values, str(number)]))


def check(messages):
    """Checks ids, HOST-EPOCH-NUMBER: in each epoch of a host numbers increase by one, from 1."""
    runs, bad = {}, 0
    for sequence, message, _ in messages:
        run, _, number = message.rpartition("-")
        expected = runs.get(run, 0) + 1
        if int(number) != expected:
            print(f"at {sequence}: {message} expected {run}-{expected}", file=sys.stderr)
            bad += 1
        runs[run] = int(number)
    for run, number in sorted(runs.items()):
        print(f"{run}\t{number}")
    if bad:
        raise SystemExit(f"{bad} events are missing, duplicated or out of order")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--servers", default="127.0.0.1:4222", help="host:port, separated by commas")
    options.add_argument("--stream", default="FLEET")
    options.add_argument("--filter", default=">", help="subjects: fleet.HOST.CONTAINER.KIND with * and >")
    options.add_argument("--by", help="count by these fields, separated by commas")
    options.add_argument("--count", action="store_true", help="print the number of events")
    options.add_argument("--check", action="store_true", help="check order and duplicates")
    options.add_argument("--leader", action="store_true", help="print the node that leads the stream")
    options = options.parse_args()
    nats = Nats(options.servers.split(","))
    if options.leader:
        info = nats.ask(f"$JS.API.STREAM.INFO.{options.stream}", {})
        print(info.get("cluster", {}).get("leader", ""))
        return
    if options.count:
        print(nats.consumer(options.stream, options.filter)[1])
        return
    messages = nats.read(options.stream, options.filter)
    if options.check:
        check(messages)
    elif options.by:
        count(messages, options.by.split(","))
    else:
        for _, _, payload in messages:
            sys.stdout.buffer.write(payload + b"\n")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()
