"""An HTTP server in the test's own process, which can cut answers short and knows byte ranges or not."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What a server serves and was asked for.

    ``cuts`` holds, for the coming answers, after how many bytes the connection ends; then answers are whole.
    """

    url: str
    files: dict[str, bytes]
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextlib.contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Served]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers["Range"]
            served.asked.append((self.path, asked))
            if self.path not in files:
                self.send_error(404)
                return
            body, start = files[self.path], 0
            if asked and served.ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                if start >= len(body):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start : served.cuts.pop(0) if served.cuts else None])
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_port}", files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
