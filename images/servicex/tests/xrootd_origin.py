"""An origin that speaks as much of XRootD's protocol as a client needs to open and stat files.

The servers are not on PyPI; the end-to-end tests have a real one.
"""

import contextlib
import socketserver
import struct
import threading
from collections.abc import Iterator

PROTOCOL, LOGIN, OPEN, STAT, LOCATE, ERROR, NOT_FOUND = 3006, 3007, 3010, 3017, 3027, 4003, 3011
SERVER, REDIRECTOR, PROXY = 1, 2, 0x200
"""Flags of a host in the response to PROTOCOL."""
HANDSHAKE_BYTES, HEADER = 20, struct.Struct("!2sH16sI")


class XRootDOrigin(socketserver.ThreadingTCPServer):
    """Files by path: their size in bytes and time of last change (Unix, s)."""

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, int]] = {}
        self.open: dict[str, tuple[int, int]] = {}
        """Files that another client has open: who opens them now gets these, as of XRootD."""
        self.stats = self.locates = 0
        self.kind = SERVER
        self.locations = ["Sr127.0.0.1:9"]
        """Where files are: `S` for a server and `M` for a redirector, `r` for reading."""
        super().__init__(("127.0.0.1", 0), _Session)
        self.address = f"root://127.0.0.1:{self.server_address[1]}"


class _Session(socketserver.StreamRequestHandler):
    server: XRootDOrigin

    def handle(self) -> None:
        self.rfile.read(HANDSHAKE_BYTES)
        opened = ""
        protocol = struct.pack("!II", 0x511, self.server.kind)
        self._respond(b"\0\0", 0, protocol)
        while len(header := self.rfile.read(HEADER.size)) == HEADER.size:
            stream, request, _, length = HEADER.unpack(header)
            path = self.rfile.read(length).partition(b"?")[0].decode()
            files = self.server.files
            if request == STAT and not path:
                # By the handle of the only file that is open.
                path, files = opened, files | self.server.open
            if request == PROTOCOL:
                self._respond(stream, 0, protocol)
            elif request == LOGIN:
                self._respond(stream, 0, bytes(16))
            elif request == LOCATE:
                self.server.locates += 1
                self._respond(stream, 0, " ".join(self.server.locations).encode() + b"\0")
            elif request == OPEN:
                opened = path
                size, mtime = (files | self.server.open)[path]
                self._respond(stream, 0, bytes(12) + f"1 {size} 16 {mtime}\0".encode())
            elif request != STAT:
                self._respond(stream, 0, b"")
            elif entry := files.get(path):
                self.server.stats += 1
                self._respond(stream, 0, f"1 {entry[0]} 16 {entry[1]}\0".encode())
            else:
                self._respond(stream, ERROR, struct.pack("!I", NOT_FOUND) + b"no such file\0")

    def _respond(self, stream: bytes, status: int, body: bytes) -> None:
        self.wfile.write(stream + struct.pack("!HI", status, len(body)) + body)


@contextlib.contextmanager
def xrootd_origin() -> Iterator[XRootDOrigin]:
    """Yield an origin without files at a free port."""
    with XRootDOrigin() as origin:
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        yield origin
        origin.shutdown()
