"""One HTTP request to an address as the mesh writes them: `HOST:PORT` or `unix:PATH`."""

import http.client
import socket
from typing import Final

TIMEOUT_S: Final = 30.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def get(address: str, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Return status, headers and body. In `headers`, `_` stands for `-`."""
    connection = (
        _UnixConnection(address.removeprefix("unix:"))
        if address.startswith("unix:")
        else http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    )
    try:
        connection.request(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()
