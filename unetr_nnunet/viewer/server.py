"""The viewer's web server: on this machine only, for whoever holds the address, and blind to paths.

A browser lets any page send requests to any address on this machine. So: the server listens on 127.0.0.1; the address
holds a random token, which other users of the machine and other pages do not know; the Host header must name this
machine (another name that a page made point here, "DNS rebinding", is refused); a foreign Origin is refused; nothing
of a request is used as a path, cases and layers are requested by number; and the page may load nothing from elsewhere.
Patients' images are not kept in the browser's cache.
"""

import hmac
import json
import re
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from urllib.parse import quote, urlsplit

from unetr_nnunet.viewer.scans import ViewedScans

ADDRESS = "127.0.0.1"
LOCAL_NAMES = ("127.0.0.1", "localhost")
TOKEN_BYTES = 32
IDLE_SECONDS = 30
"""A connection that sends no request for so long is closed."""

STATIC = {
    "": ("index.html", "text/html; charset=utf-8"),
    "viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "niivue.umd.js": ("niivue.umd.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' data:; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_VOLUME = re.compile(r"case/(\d{1,6})/(?:ct|mask/(\d{1,3})(/coarse)?)\.nii", re.ASCII)
Answer = tuple[HTTPStatus, str, bytes, dict[str, str]]


class ViewerServer(ThreadingHTTPServer):
    """Serves scans and their label maps.

    Args:
        scans: what is shown.
        port: 0 for any that is free.

    Raises:
        ValueError: the port is taken, or not for us.
    """

    daemon_threads = True

    def __init__(self, scans: ViewedScans, port: int = 0) -> None:
        self.scans = scans
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        folder = files("unetr_nnunet.viewer") / "static"
        self.static = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in STATIC.items()}
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ValueError(
                f"port {port} cannot be used ({error}): choose another, or none for any free one"
            ) from error

    @property
    def url(self) -> str:
        """The page's address, which is the key to it."""
        return f"http://{ADDRESS}:{self.server_address[1]}/{self.token}/"

    def answer(self, path: str) -> Answer:
        """Return status, content type, body and further headers for the part of the address behind the token."""
        if path in self.static:
            body, kind = self.static[path]
            return HTTPStatus.OK, kind, body, {}
        if path == "study.json":
            return _json(HTTPStatus.OK, self.scans.contents())
        match = _VOLUME.fullmatch(path)
        if match is None:
            return _json(HTTPStatus.NOT_FOUND, {"error": "there is no such page"})
        case, layer, thinned = match.groups()
        word = ""
        try:
            if layer is None:
                body = self.scans.ct(int(case))
            else:
                body, word = self.scans.mask(int(case), int(layer), thinned=thinned is not None)
        except LookupError:
            return _json(HTTPStatus.NOT_FOUND, {"error": "there is no such case or mask"})
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            return _json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error) or type(error).__name__})
        return HTTPStatus.OK, "application/octet-stream", body, {"X-Word": quote(word)}


def _json(status: HTTPStatus, content: object) -> Answer:
    return status, "application/json; charset=utf-8", json.dumps(content).encode(), {}


class _Handler(BaseHTTPRequestHandler):
    server: ViewerServer
    server_version, sys_version = "viewer", ""
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        """Answer a request; a refusal says nothing but the reason."""
        token, slash, path = urlsplit(self.path).path.removeprefix("/").partition("/")
        if not self._is_local():
            answer = _json(HTTPStatus.FORBIDDEN, {"error": "open the address as it was printed"})
        elif not (
            self.path.startswith("/")
            and slash
            and hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode())
        ):
            answer = _json(HTTPStatus.NOT_FOUND, {"error": "there is no such page"})
        else:
            answer = self.server.answer(path)
        self._send(*answer)

    def _is_local(self) -> bool:
        """Tell whether the browser means this server by a name that cannot be pointed elsewhere."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].partition(":")[0].lower() not in LOCAL_NAMES:
            return False
        origins = self.headers.get_all("Origin", [])
        return all(origin == f"http://{hosts[0]}" for origin in origins)

    def _send(self, status: HTTPStatus, kind: str, body: bytes, more: dict[str, str]) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in (HEADERS | more).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            pass  # the reader has gone on to another case

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the address is the key."""
