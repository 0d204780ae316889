"""Download over HTTP that goes on where it broke off, and takes no web page for data.

What has arrived lies in `<name>.part`, with its address and what the server called that version of
it in `<name>.part.json`; only a whole file gets its own name. A server that cannot send the rest
sends everything again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import html.parser
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench.data.download.catalogue import Download
from bench.data.download.checksums import DownloadPin
from bench.data.source import DataError

TIMEOUT_SECONDS = 60.0
MAX_FRUITLESS_TRIES = 4
"""Tries in a row that bring nothing new before the next address is asked."""
MAX_TRIES = 200
"""Tries of any kind before the next address is asked; another command goes on from there."""

_BLOCK_BYTES = 1 << 18
_PAGE_BYTES = 1 << 20
_BACKOFF_SECONDS = 1.0
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_HEADERS = {"User-Agent": "mach-bench", "Accept-Encoding": "identity"}
# First bytes by the end of a name.
_MAGIC = {".zip": b"PK\x03\x04", ".gz": b"\x1f\x8b", ".bz2": b"BZh"}


class _AddressError(Exception):
    """This address will not give the file; the message says why."""


class _BrokenOffError(Exception):
    """The connection ended early; it may go on."""


class _WrongPartError(_BrokenOffError):
    """The server does not send the part that was asked for; it may send the whole file."""


class KeptError(DataError):
    """What was downloaded is kept: a person has to decide, or to make room."""


def download(
    item: Download,
    folder: Path,
    *,
    pinned_sha256: str | None,
    use: Callable[[Path], None],
    tell: Callable[[str], None],
) -> DownloadPin:
    """Bring a file into `folder`, from the first address that gives one that is of use.

    Args:
        item: what to bring.
        folder: where to; it exists.
        pinned_sha256: checksum (hex) that the file had when it was first downloaded, if it was.
        use: called with the whole file, which is removed afterwards. If it raises a `KeptError`,
            the file stays, and is not downloaded again; after any other `DataError` the next
            address is asked.
        tell: takes lines for the person who waits.

    Raises:
        KeptError: as `use` raised it, or the disk is full.
        DataError: no address gives the file, or none gives what was pinned or is of use.
    """
    target = folder / item.file_name
    wanted = item.sha256 or pinned_sha256
    failures = []
    for address in _begun_first(item, target):
        try:
            if not (target.exists() and _read_state(target)[0] == address):
                tell(f"{item.file_name}: asking {address}")
                _bring(address, target, tell)
            sha256 = _sha256(target)
            if wanted is not None and sha256 != wanted:
                raise _AddressError(f"sha256 is {sha256}; expected {wanted}")
            receipt = DownloadPin(sha256=sha256, num_bytes=target.stat().st_size, address=address)
            use(target)
        except KeptError:
            raise
        except (_AddressError, DataError) as reason:
            failures.append(f"{address}: {reason}")
            tell(f"  {reason}")
            # A partial file stays: it may go on tomorrow.
            if target.exists():
                target.unlink()
                _state_path(target).unlink(missing_ok=True)
            continue
        target.unlink(missing_ok=True)
        _state_path(target).unlink(missing_ok=True)
        return receipt
    raise DataError(f"{item.file_name} could not be had:\n  " + "\n  ".join(failures))


def _begun_first(item: Download, target: Path) -> list[str]:
    """The addresses, but the one that a partial file came from before all others."""
    begun, _ = _read_state(target)
    return sorted(item.addresses, key=lambda address: address != begun)


def _bring(address: str, target: Path, tell: Callable[[str], None]) -> None:
    """Ask until the file is whole.

    Only more bytes than there ever were are progress; once a server has sent a wrong part, the
    whole file is asked for.

    Raises:
        _AddressError: it brought nothing new several times in a row, or was asked too often.
        KeptError: the disk is full or may not be written to.
    """
    part = _part(target)
    most = _size(part) if _read_state(target)[0] == address else 0
    num_fruitless, takes_parts = 0, True
    for num_tries in range(1, MAX_TRIES + 1):
        try:
            _transfer(address, target, takes_parts=takes_parts)
        except (_BrokenOffError, OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
                raise KeptError(f"{part}: {error.strerror}") from error
            takes_parts = takes_parts and not isinstance(error, _WrongPartError)
            has_grown = _size(part) > most
            most = max(most, _size(part))
            num_fruitless = 0 if has_grown else num_fruitless + 1
            if num_fruitless == MAX_FRUITLESS_TRIES:
                raise _AddressError(f"{error} ({num_fruitless} times)") from error
            if num_tries == MAX_TRIES:
                raise _AddressError(f"{error}; asked {num_tries} times") from error
            tell(f"  {error}; trying again")
            time.sleep(_BACKOFF_SECONDS * 2**num_fruitless)
            continue
        part.replace(target)
        return


def _transfer(address: str, target: Path, *, takes_parts: bool) -> None:
    """One connection: the rest of the file, or the whole of it."""
    part = _part(target)
    begun, validator = _read_state(target)
    offset = _size(part) if takes_parts and begun == address else 0
    opener = urllib.request.build_opener(
        _SafeRedirects, urllib.request.HTTPCookieProcessor(CookieJar())
    )
    headers = dict(_HEADERS)
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if validator:
            headers["If-Range"] = validator
    answer = _open(opener, address, headers, part)
    if answer is None:
        return
    with answer as response:
        if response.status == 206 and not _continues(response, offset):
            raise _WrongPartError(f"the server sent another part than the one from {offset:,} on")
        first = response.read(_BLOCK_BYTES)
        if response.status != 206:
            offset = 0
            _refuse_other_kinds(first, target)
        total = _total_bytes(response)
        free = shutil.disk_usage(target.parent).free
        if total is not None and total - offset > free:
            raise KeptError(
                f"{target.name}: {total - offset:,} bytes to come; {free:,} are free on the disk"
            )
        if offset == 0:
            part.unlink(missing_ok=True)
            _write_state(target, address, response)
        with (
            part.open("ab") as stream,
            tqdm(
                total=total,
                initial=offset,
                unit="B",
                unit_scale=True,
                desc=f"  {target.name}",
                disable=None,  # where nobody watches
                leave=False,
            ) as bar,
        ):
            block = first
            while block:
                stream.write(block)
                offset += len(block)
                bar.update(len(block))
                block = response.read(_BLOCK_BYTES)
    if total is not None and offset != total:
        raise _BrokenOffError(f"broke off at {offset:,} of {total:,} bytes")


def _open(
    opener: urllib.request.OpenerDirector, address: str, headers: dict[str, str], part: Path
) -> Any:
    """The response that carries data, past a page that asks for confirmation; see `_request`."""
    response = _request(opener, address, headers, part)
    if response is None or response.headers.get_content_type() != "text/html":
        return response
    response.close()
    with _request(opener, address, _HEADERS, part) as response:  # the page, not a part of it
        confirmed = confirmed_address(response.url, response.read(_PAGE_BYTES))
    if confirmed is not None:
        response = _request(opener, confirmed, headers, part)
        if response is None or response.headers.get_content_type() != "text/html":
            return response
        response.close()
    raise _AddressError("a web page came instead of data (open the address in a browser)")


def _request(
    opener: urllib.request.OpenerDirector, url: str, headers: dict[str, str], part: Path
) -> Any:
    """The response of a server that has the file; None where the partial file is the whole."""
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # nothing is left to send, or the file is another one
                there = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
                if "Range" in headers and there and int(there[1]) == _size(part):
                    return None
                raise _WrongPartError("the server has no such part of the file") from error
            kind = _BrokenOffError if error.code in _RETRIED else _AddressError
            raise kind(f"HTTP {error.code} {error.reason}") from error


def confirmed_address(page_url: str, page: bytes) -> str | None:
    """Where Google Drive's page "too large to be scanned" leads, or None if it is none.

    The address is Google's, or at least on the page's own host.
    """
    parser = _ConfirmationPage()
    parser.feed(page.decode("utf-8", "replace"))
    if parser.action is None:
        return None
    action = urllib.parse.urljoin(page_url, parser.action)
    parts = urllib.parse.urlsplit(action)
    host, page_host = parts.hostname or "", urllib.parse.urlsplit(page_url).hostname
    if parts.scheme not in ("http", "https"):
        return None
    if host != page_host and not host.endswith((".google.com", ".googleusercontent.com")):
        return None
    query = dict(urllib.parse.parse_qsl(parts.query)) | parser.fields
    return urllib.parse.urlunsplit(parts._replace(query=urllib.parse.urlencode(query)))


class _ConfirmationPage(html.parser.HTMLParser):
    """Target and hidden fields of the download form, or the older page's link."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and values.get("id") in ("download-form", "downloadForm"):
            self.action = values.get("action")
            self._is_inside = True
        elif tag == "input" and self._is_inside and values.get("name"):
            self.fields[values["name"]] = values.get("value", "")
        elif tag == "a" and values.get("id") == "uc-download-link" and self.action is None:
            self.action = values.get("href")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_inside = False


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to the web alone, and never from https to http."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urllib.parse.urlsplit(newurl).scheme not in allowed:
            raise _AddressError(f"sends on to {newurl}; expected {' or '.join(allowed)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _continues(response: Any, offset: int) -> bool:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == offset


def _total_bytes(response: Any) -> int | None:
    """Size of the whole file, if the server says it."""
    if response.status == 206:
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _refuse_other_kinds(first: bytes, target: Path) -> None:
    magic = _MAGIC.get(target.suffix)
    start = first[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        raise _AddressError("a web page came instead of data (open the address in a browser)")
    if magic is not None and not first.startswith(magic):
        raise _AddressError(
            f"the data starts with {first[:8]!r}; expected {magic!r} as of a {target.suffix} file"
        )


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _state_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def _read_state(target: Path) -> tuple[str | None, str | None]:
    """Address and validator of the partial file; None where they are not known."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        state = json.loads(_state_path(target).read_text(encoding="utf-8"))
        return state["address"], state["validator"]
    return None, None


def _write_state(target: Path, address: str, response: Any) -> None:
    """Before the first byte, so that a partial file never has another one's address."""
    tag = response.headers.get("ETag", "")
    # A weak tag promises no equal bytes.
    validator = response.headers.get("Last-Modified") if not tag or tag.startswith("W/") else tag
    state = json.dumps({"address": address, "validator": validator})
    _state_path(target).write_text(state, encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
