"""A web server on this machine that misbehaves as it is told, and small archives to serve."""

from __future__ import annotations

import contextlib
import io
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """What lies at a path.

    Attributes:
        content: what is sent.
        kind: content type.
        tag: entity tag, None for none.
        has_ranges: whether parts can be had.
        breaks: after so many bytes of a response the connection ends, once for each entry; None
            lets it last.
        statuses: sent instead, once for each entry.
    """

    content: bytes
    kind: str = "application/octet-stream"
    tag: str | None = '"1"'
    has_ranges: bool = True
    breaks: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


class Site:
    """Pages by path, and the requests that came: path and `Range`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str | None]] = []

    def put(self, path: str, page: Page) -> str:
        """Serve a page; its address."""
        self.pages[path] = page
        return self.root + path


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.site.requests.append((self.path, asked))
        page = self.site.pages.get(self.path)
        if page is None:
            self.send_error(404)
            return
        if page.statuses:
            self.send_error(page.statuses.pop(0))
            return
        start = 0
        tag = self.headers.get("If-Range")
        if asked and page.has_ranges and tag in (None, page.tag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(page.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(page.content)}")
                self.end_headers()
                return
            self.send_response(206)
            whole = len(page.content)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", page.kind)
        self.send_header("Content-Length", str(len(page.content) - start))
        if page.tag:
            self.send_header("ETag", page.tag)
        self.end_headers()
        length = page.breaks.pop(0) if page.breaks else None
        stop = None if length is None else start + length
        with contextlib.suppress(ConnectionError):  # whoever asked has seen enough
            self.wfile.write(page.content[start:stop])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at `Site.requests`."""


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    """A site on 127.0.0.1 while the block lasts."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    site = handler.site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A zip archive of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def ranges(site: Site) -> list[str | None]:
    """The first byte of each request that asked for a part."""
    return [asked and re.sub(r"\D", "", asked) for _, asked in site.requests]
