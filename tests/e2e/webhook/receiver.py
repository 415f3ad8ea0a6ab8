"""A receiver of webhooks that does what a file says.

Usage: receiver.py PORT MODE GOT TRIED TOKEN

The file MODE holds `ok`, `hang` or the status to answer with. Each request adds a line to TRIED (its mode), and one that is
answered with 200 adds its body to GOT. A request without the token is refused.
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, MODE, GOT, TRIED, TOKEN = sys.argv[1:]
one_at_a_time = threading.Lock()


def add(path, line):
    with one_at_a_time, open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        with open(MODE, encoding="utf-8") as file:
            mode = file.read().strip()
        right = self.headers["authorization"] == "Bearer " + TOKEN and self.path == "/hook?a=b"
        right = right and self.headers["content-type"] == "application/json"
        add(TRIED, mode if right else "wrong")
        if mode == "hang":
            threading.Event().wait()
        status = 200 if mode == "ok" else int(mode)
        if not right:
            status = 401
        if status == 200:
            add(GOT, body)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(PORT)), Receiver)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
