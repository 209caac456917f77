"""A stand-in for the Hugging Face hub, over HTTP: what the real client asks of it to list and download a repository."""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """repos: the folder behind each repository. asked: every request. refused: files, by the end of their path, that
    are not given."""

    repos: dict[str, Path]
    asked: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    url: str = ""

    def downloaded(self) -> list[str]:
        """The files that were sent, by their path in the repository."""
        return [path.split("/", 5)[5] for path in self.asked if path.startswith("GET ") and "/resolve/" in path]

    def forget(self) -> None:
        self.asked.clear()
        self.refused.clear()


@contextlib.contextmanager
def serve(repos: dict[str, Path]) -> Iterator[Hub]:
    hub = Hub(repos)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._answer(with_body=True)

        def do_HEAD(self):
            self._answer(with_body=False)

        def log_message(self, *_):
            pass

        def _answer(self, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            listing = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(\w+)(/.*)?", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path)
            if listing and listing[1] in repos:
                name, what, revision = listing.group(1, 2, 3)
                files = [_entry(repos[name], found) for found in sorted(repos[name].rglob("*")) if found.is_file()]
                info = {"id": name, "sha": revision, "siblings": [{"rfilename": f["path"], **f} for f in files]}
                tree = [{"type": "file", "oid": f["blobId"], **f} for f in files]
                self._send(200, json.dumps(info if what == "revision" else tree).encode(), {}, with_body)
            elif any(path.endswith(name) for name in hub.refused):
                self._send(403, b"{}", {}, with_body)
            elif file and file[1] in repos and (repos[file[1]] / file[3]).is_file():
                entry = _entry(repos[file[1]], repos[file[1]] / file[3])
                headers = {"X-Repo-Commit": file[2], "ETag": f'"{entry.get("lfs", {}).get("sha256", entry["blobId"])}"'}
                content = (repos[file[1]] / file[3]).read_bytes()
                start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
                self._send(206 if start else 200, content[start:], headers, with_body)
            else:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)

        def _send(self, status: int, body: bytes, headers: dict, with_body: bool) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()


def _entry(repo: Path, path: Path) -> dict:
    """A file as the hub lists it: large ones, here those of weights, with their SHA-256."""
    content = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"path": path.relative_to(repo).as_posix(), "size": len(content), "blobId": blob}
    if path.suffix == ".safetensors":
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(content), "pointerSize": 134}
    return entry
