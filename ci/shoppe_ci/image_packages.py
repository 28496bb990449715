"""Lists the packages in an image; it runs in the image, with nothing but Python's own modules.

Prints a JSON list of [type, namespace, name, version], with the types of package URLs
(https://github.com/package-url/purl-spec).
"""

import json
import mmap
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

Package = tuple[str, str, str, str]
PLACES = (Path("/opt"), Path("/usr/local"))
"""Where images have what Debian did not install."""
BUILD_INFO = b"\xff Go buildinf:"
"""What precedes the modules of a Go program; source: Go's package debug/buildinfo."""
STRINGS = 32
"""Where the strings begin behind it: of the version, then of the modules."""
FRAME = 16
"""Length of the marks before and after the modules."""
MODULE = re.compile(r"(?:dep|=>)\t(\S+)\t(\S+)")


def debian() -> Iterator[Package]:
    """Yield the packages of the operating system."""
    if shutil.which("dpkg-query") is None:
        return
    form = "${Package} ${Version}\n"
    for line in subprocess.check_output(["dpkg-query", "-W", "-f", form], text=True).splitlines():
        name, version = line.split()
        yield "deb", "debian", name, version


def python(place: Path) -> Iterator[Package]:
    """Yield the Python distributions, from their metadata."""
    for metadata in place.rglob("*.dist-info/METADATA"):
        head = metadata.read_text(errors="replace").split("\n\n")[0]
        fields = dict(re.findall(r"^(Name|Version): (.*)$", head, re.MULTILINE))
        yield "pypi", "", fields["Name"], fields["Version"]


def node(place: Path) -> Iterator[Package]:
    """Yield the Node packages, those with a scope (@SCOPE/NAME) included."""
    for pattern in ("node_modules/*/package.json", "node_modules/@*/*/package.json"):
        for manifest in place.rglob(pattern):
            content = json.loads(manifest.read_text(errors="replace"))
            if "version" in content:
                scope, _, name = content["name"].rpartition("/")
                yield "npm", scope, name, content["version"]


def go(place: Path) -> Iterator[Package]:
    """Yield the modules of the Go programs."""
    for path in place.rglob("*"):
        if path.is_file() and path.stat().st_mode & 0o111 and path.stat().st_size > STRINGS:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
                start = m.find(BUILD_INFO) if m[:4] == b"\x7fELF" else -1
                if start >= 0:
                    version, behind = _string(m, start + STRINGS)
                    modules, _ = _string(m, behind)
                    yield "golang", "", "stdlib", version.decode().removeprefix("go").split()[0]
                    yield from go_modules(modules[FRAME:-FRAME].decode())


def _string(content: mmap.mmap, start: int) -> tuple[bytes, int]:
    """Return a string whose length precedes it as a varint, and where it ends."""
    length = shift = 0
    while True:
        byte = content[start]
        start += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return content[start : start + length], start + length


def go_modules(text: str) -> Iterator[Package]:
    """Yield the modules that a program was built from.

    A module that is replaced is its replacement; a folder of the program's own source is none.
    """
    lines = text.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        match = MODULE.match(line)
        if match and not following.startswith("=>") and not match[1].startswith("."):
            namespace, _, name = match[1].rpartition("/")
            yield "golang", namespace, name, match[2]


def main() -> None:
    """Print the packages."""
    packages = set(debian())
    for place in PLACES:
        packages |= {*python(place), *node(place), *go(place)}
    print(json.dumps(sorted(packages)))


if __name__ == "__main__":
    main()
