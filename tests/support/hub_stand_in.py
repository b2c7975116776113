"""A model hub on loopback: the two addresses that pulling uses, with ranges, and with faults on demand."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "c0ffee" * 6 + "c0ff"


class Hub:
    """Repositories as {name: {file: bytes}}, what was asked of it, and which faults it has."""

    def __init__(self):
        self.repos = {}
        self.requests = []  # (method, path, Range header, Authorization header)
        self.cut_after = None  # close the connection after so many bytes of a large file's body
        self.cuts = 0  # how many more times to do so
        self.corrupt = set()  # files whose body is altered
        self.ignore_ranges = False
        self.gated = set()
        self.fail = []  # status codes to answer with first
        self.redirect_to = None  # another origin for file bodies
        self.address = ""

    def add(self, name, directory):
        """A repository with the files of a folder."""
        self.repos[name] = {
            p.relative_to(directory).as_posix(): p.read_bytes() for p in Path(directory).rglob("*") if p.is_file()
        }

    def bodies(self):
        """The file downloads so far: (path, range)."""
        return [
            (path, ranged)
            for method, path, ranged, _ in self.requests
            if "/resolve/" in path or path.startswith("/cdn/")
        ]


def digest(data, *, large):
    """A file's published hash: SHA-256 for large files, git's blob hash for small ones."""
    if large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_large(name):
    """Whether a file is stored as a large one."""
    return name.endswith((".safetensors", ".bin", ".pth"))


def _entry(name, data):
    entry = {"rfilename": name, "size": len(data), "blobId": digest(data, large=False)}
    if is_large(name):
        entry["lfs"] = {"sha256": digest(data, large=True), "size": len(data), "pointerSize": 134}
    return entry


@contextmanager
def serve(hub):  # noqa: C901 (one handler with its faults)
    """Run the hub on a free port; `hub.address` is its endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            path = urlsplit(self.path).path
            hub.requests.append(("GET", path, self.headers.get("Range"), self.headers.get("Authorization")))
            if hub.fail:
                self.reply(hub.fail.pop(0), b"not now")
            elif path.startswith("/api/models/"):
                self.listing(path.removeprefix("/api/models/"))
            elif "/resolve/" in path:
                repo, _, rest = path.strip("/").partition("/resolve/")
                if hub.redirect_to:
                    self.reply(302, b"", Location=f"{hub.redirect_to}/cdn/{repo}/resolve/{rest}")
                else:
                    self.body(repo, rest.partition("/")[2])
            else:
                self.reply(404, b"")

        def listing(self, repo):
            if repo in hub.gated:
                self.reply(401, b"")
            elif repo not in hub.repos:
                self.reply(404, b"")
            else:
                siblings = [_entry(name, data) for name, data in hub.repos[repo].items()]
                self.reply(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode())

        def body(self, repo, name):
            data = hub.repos[repo.removeprefix("cdn/")].get(name)
            if data is None:
                self.reply(404, b"")
                return
            if name in hub.corrupt:
                data = data[:-1] + bytes([data[-1] ^ 1])
            start = 0
            ranged = self.headers.get("Range")
            if ranged and not hub.ignore_ranges:
                start = int(ranged.removeprefix("bytes=").partition("-")[0])
            part = data[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if hub.cuts and is_large(name):
                hub.cuts -= 1
                self.wfile.write(part[: hub.cut_after])
                self.close_connection = True
            else:
                self.wfile.write(part)

        def reply(self, status, content, **headers):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
