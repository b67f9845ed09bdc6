import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.viewer.confinement import GivenPaths
from unetr_nnunet.viewer.scans import Scan, ViewedScans, make_layers
from unetr_nnunet.viewer.server import ViewerServer


def image(value: int, kind: type) -> sitk.Image:
    return sitk.GetImageFromArray(np.full((2, 3, 4), value, kind))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ViewerServer]:
    for name, label in (("a", 6), ("b", 7)):
        folder = tmp_path / "masks"
        folder.mkdir(exist_ok=True)
        sitk.WriteImage(image(label, np.uint8), str(folder / f"{name}.nii.gz"))
    (tmp_path / "masks" / "b.nii.gz").write_bytes(b"not a mask")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "ct.nii.gz").touch()
    scans = [Scan(name, (tmp_path / "ct.nii.gz",), lambda: image(50, np.int16)) for name in "ab"]
    layers = make_layers([tmp_path / "masks"], None, ["a", "b"])
    with ViewerServer(ViewedScans(scans, layers, GivenPaths([tmp_path]))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(
    server: ViewerServer, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[HTTPResponse, bytes]:
    """Ask for a path as it is, without the tidying of a browser."""
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for name, value in ({"Host": f"127.0.0.1:{port}"} | (headers or {})).items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def status_line(server: ViewerServer, request: str) -> bytes:
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=20) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as answer:
            return answer.readline()


def root(server: ViewerServer) -> str:
    return urlsplit(server.url).path


def test_page_parts_and_volumes(server: ViewerServer) -> None:
    start = root(server)
    response, body = get(server, start)
    assert response.status == 200
    assert response.getheader("Content-Type") == "text/html; charset=utf-8"
    for part in re.findall(rb'(?:src|href)="([^":]+)"', body):
        response, content = get(server, start + part.decode())
        assert (response.status, len(content) > 0) == (200, True), part
    assert json.loads(get(server, start + "study.json")[1])["cases"][1] == {"name": "b", "layers": [0]}
    for path, value in (("case/0/ct.nii", 50), ("case/0/mask/0.nii", 6), ("case/0/mask/0/coarse.nii", 6)):
        response, body = get(server, start + path)
        assert response.status == 200
        assert np.all(np.asarray(nibabel.Nifti1Image.from_bytes(body).dataobj) == value)


def test_a_damaged_file_is_said_in_one_line(server: ViewerServer) -> None:
    response, body = get(server, root(server) + "case/1/mask/0.nii")
    assert response.status == 422
    assert "b.nii.gz is not a single-file NIfTI-1 image" in json.loads(body)["error"]


def test_a_word_on_a_mask_travels_with_it(server: ViewerServer, tmp_path: Path) -> None:
    shifted = image(6, np.uint8)
    shifted.SetOrigin((0, 0, 1))
    sitk.WriteImage(shifted, str(tmp_path / "masks" / "a.nii.gz"))
    response, _ = get(server, root(server) + "case/0/mask/0.nii")
    assert "lies on another grid than its CT" in unquote(response.getheader("X-Word") or "")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/study.json",
        "/favicon.ico",
        "/{other}/study.json",
        "/{short}/",
        "/{token}",
        "/{token}x/",
        "/%2e/{token}/",
        "http://127.0.0.1/{token}/",
    ],
)
def test_nothing_without_the_token(server: ViewerServer, path: str) -> None:
    token = server.token
    assert len(token) >= 43
    path = path.format(token=token, short=token[:-1], other="A" * len(token))
    response, body = get(server, path or "*")
    assert response.status == 404, path
    assert len(body) < 100


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "..%2fsecret.txt",
        "%2e%2e/secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "static/index.html",
        "server.py",
        "../server.py",
        "case/0/../../secret.txt",
        "case/0/mask/../../../secret.txt",
        "case/0/mask/0.nii/../../../../secret.txt",
        "case/-1/ct.nii",
        "case/2/ct.nii",
        "case/0/mask/1.nii",
        "case/0/mask/-1.nii",
        "case/0000000000000000000000000000000000/ct.nii",
        "case/0/ct.nii%00",
        "case/0/ct.nii\\",
        "viewer.js/",
        "case/0/",
    ],
)
def test_no_path_reaches_a_file(server: ViewerServer, path: str) -> None:
    response, body = get(server, root(server) + path)
    assert response.status == 404
    assert b"secret" not in body


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", "", "0.0.0.0", "[::1]"],
)
def test_other_names_for_this_machine_are_refused(server: ViewerServer, host: str) -> None:
    response, body = get(server, root(server), {"Host": host.format(port=server.server_address[1])})
    assert response.status == 403
    assert b"html" not in body


@pytest.mark.parametrize(
    "path", ["/\xff/", "/{token}\xff/", "/{token}/\xff", "/{token}/case/\u0663/ct.nii", "/\0{token}/"]
)
def test_bytes_beyond_ascii_are_no_page(server: ViewerServer, path: str) -> None:
    path = path.format(token=server.token)
    assert b" 404 " in status_line(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")


def test_two_or_no_host_headers_are_refused(server: ViewerServer) -> None:
    port = server.server_address[1]
    for hosts in ("", f"Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n"):
        assert b" 403 " in status_line(server, f"GET {root(server)} HTTP/1.1\r\n{hosts}\r\n")


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:9999", "LOCALHOST"])
def test_this_machine_by_name_and_through_a_tunnel(server: ViewerServer, host: str) -> None:
    host = host.format(port=server.server_address[1])
    assert get(server, root(server), {"Host": host})[0].status == 200
    assert get(server, root(server), {"Host": host, "Origin": f"http://{host}"})[0].status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"])
def test_other_origins_are_refused(server: ViewerServer, origin: str) -> None:
    origin = origin.format(port=server.server_address[1])
    response, _ = get(server, root(server) + "study.json", {"Origin": origin})
    assert response.status == 403
    assert response.getheader("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "CONNECT", "TRACE"])
def test_other_methods_are_refused(server: ViewerServer, method: str) -> None:
    assert get(server, root(server) + "study.json", method=method)[0].status == 501


@pytest.mark.parametrize(
    "ranges", ["bytes=0-", "bytes=0-99999999999999999999", "bytes=-1", ",".join(["bytes=0-"] * 999)]
)
def test_ranges_are_not_looked_at(server: ViewerServer, ranges: str) -> None:
    whole = get(server, root(server) + "case/0/ct.nii")[1]
    response, body = get(server, root(server) + "case/0/ct.nii", {"Range": ranges})
    assert (response.status, body) == (200, whole)


def test_every_answer_forbids_embedding_caching_and_foreign_content(server: ViewerServer) -> None:
    for path in (root(server), root(server) + "case/0/ct.nii", "/"):
        response, _ = get(server, path)
        policy = response.getheader("Content-Security-Policy") or ""
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.getheader("Cross-Origin-Resource-Policy") == "same-origin"
        assert response.getheader("Referrer-Policy") == "no-referrer"
        assert response.getheader("X-Content-Type-Options") == "nosniff"
        assert response.getheader("Cache-Control") == "no-store"
        assert "Python" not in (response.getheader("Server") or "")


def test_an_endless_address_or_header_ends_in_an_error(server: ViewerServer) -> None:
    assert get(server, root(server) + "a" * 70_000)[0].status == 414
    assert get(server, root(server), {"X-Long": "a" * 70_000})[0].status == 431
    assert get(server, root(server))[0].status == 200


def test_a_reader_who_hangs_up_or_says_nothing_stops_nobody(
    server: ViewerServer, capfd: pytest.CaptureFixture[str]
) -> None:
    port = server.server_address[1]
    with socket.create_connection(("127.0.0.1", port)):  # says nothing
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(f"GET {root(server)}niivue.umd.js HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        assert get(server, root(server))[0].status == 200
    time.sleep(0.2)
    assert capfd.readouterr() == ("", "")


def test_it_listens_on_the_loopback_only_and_a_taken_port_is_said(server: ViewerServer, tmp_path: Path) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    for port in (server.server_address[1], 70_000):
        with pytest.raises(ValueError, match=f"port {port} cannot be used"):
            ViewerServer(server.scans, port)


def test_each_server_has_its_own_token(server: ViewerServer) -> None:
    with ViewerServer(server.scans) as other:
        assert other.token != server.token
