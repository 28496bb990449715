"""What is opened is what was checked: no file of a shared transformer's own."""

import http.server
import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uproot
from coffea_shoppe_servicex import addresses, estimate, finders, transform
from coffea_shoppe_servicex.codegens import Codegens
from coffea_shoppe_servicex.errors import QueryError, TransformError
from coffea_shoppe_servicex.finders import LookupFailedError
from coffea_shoppe_servicex.settings import Finders
from servicex_helpers import columns, make, raw

REFUSED = [
    *("/etc/passwd", "etc/passwd", "file:///etc/passwd", "file://localhost/etc/passwd", ""),
    *("simplecache::file:///etc/passwd", "simplecache::https://host/a.root"),
    *("reference://a.root::http://host/refs.json", "zip://a.root::https://host/a.zip"),
    *("https://host/a.root::file:///etc/passwd", "root://host//a.root::/etc/passwd"),
    *("memory://a", "s3://bucket/a.root", "ftp://host/a.root", "local:///etc/passwd"),
    *("https://host/my file.root", "https://host/a.root\n", "root://", "https:///etc/passwd"),
    *("root://host//a.root ", " root://host//a.root", "root://host//a\tb.root", "root:// h//a"),
    *("root://host//a.root\nroot://host//b.root", "root://host//my file.meta4"),
    *("root://host//a.meta4", "root://host//a.metalink?x=1", " https://host/a.root", "github://a"),
]
OPENED = [
    *("root://host:1094//a.root", "xroot://host//a.root", "davs://host/a.root", "http://host/a"),
    *("https://host:8443/a.root?X-Amz-Signature=a%2Fb&c=d:e", "root://host//my%20file.root"),
    *("root://cache:1094//root://origin//a.root", "root://cache//root://origin//my file.root"),
    *("root://host//my folder/a  b.root", "root://host//é/日本.root", "root://host//a#1[x]*.root"),
    *("https://host/%C3%A9.root", "https://host/é.root", "https://host/a%20b.root?X-Amz-Sig=%2B"),
]


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and parts of its files."""

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        first, last = 0, len(content) - 1
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(int(asked[2] or last), last)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[first : last + 1])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder of files over HTTP; returns its address and the folder."""
    folder = tmp_path / "served"
    make(folder / "nano" / "a.root", count=10)
    make(folder / "scores" / "a.root", count=10)

    def handler(*arguments: Any) -> Ranges:
        return Ranges(*arguments, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


@pytest.mark.parametrize("address", REFUSED)
def test_what_leads_elsewhere_is_not_opened(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QueryError, match="give root:// or https://"):
        addresses.check(address, local_files=False)
    monkeypatch.delattr(uproot, "open")
    query = Codegens.load().parse("uproot-raw", raw(treename="t"), "parquet")
    with pytest.raises(TransformError, match="give root:// or https://"):
        transform.transform(query, [address], Path("never"), "parquet")
    with pytest.raises(TransformError, match="give root:// or https://"):
        estimate.size(query, [address], local_files=False)


def test_a_space_has_the_spelling_of_its_protocol() -> None:
    with pytest.raises(QueryError, match="%20 for a space"):
        addresses.check("https://host/my file.root", local_files=False)
    with pytest.raises(QueryError) as refused:
        addresses.check("root://host//a\tb.root", local_files=False)
    assert "%20" not in str(refused.value)


@pytest.mark.parametrize("name", ["my file.root", "é 日本.root", "a#b.root", "a[1]*.root"])
@pytest.mark.parametrize("query", ["", "?X-Amz-Signature=a%2Bb%3D&x=c+d%20e"])
def test_names_are_quoted_in_urls(
    origin: tuple[str, Path], tmp_path: Path, name: str, query: str
) -> None:
    url, folder = origin
    make(folder / name, count=10)
    address = f"{url}/{quote(name)}{query}"
    selection = raw(treename="Events", expressions=["met"])
    assert len(columns(tmp_path, selection, address, local_files=False)) == 10


@pytest.mark.parametrize(
    ("did", "name", "count"),
    [
        ("rucio://a:b", "rucio://a:b", None),
        ("rucio://a:b?files=10", "rucio://a:b", 10),
        ("xrootd://root://h//a?.root", "xrootd://root://h//a?.root", None),
        ("xrootd://root://h//a?.root?files=2", "xrootd://root://h//a?.root", 2),
        ("cernopendata://1507?files=0", "cernopendata://1507", 0),
    ],
)
def test_the_number_of_files_is_what_follows_a_name(did: str, name: str, count: Any) -> None:
    assert addresses.split_did(did) == (name, count)


@pytest.mark.parametrize(
    "did",
    [
        *("rucio://a:b?files=two", "rucio://a:b?file=2", "cernopendata://1?files=2&x=1"),
        *("cernopendata://1?", "xrootd://root://h//*.root?files=two"),
    ],
)
def test_other_options_of_a_dataset_are_refused(did: str) -> None:
    with pytest.raises(QueryError, match=r"files=10|give .files=N") as refused:
        addresses.split_did(did)
    assert "did: " in str(refused.value) or did.endswith("?")


@pytest.mark.parametrize("address", OPENED)
def test_files_of_others_are_opened(address: str) -> None:
    addresses.check(address, local_files=False)


def test_on_a_laptop_its_files_are_opened(tmp_path: Path) -> None:
    file = make(tmp_path / "a.root", count=10)
    selection = raw(treename="Events", expressions=["met"])
    assert len(columns(tmp_path, selection, file)) == 10
    with pytest.raises(TransformError, match="give root:// or https://"):
        columns(tmp_path, selection, file, local_files=False)


JOIN = {"treename": "Weights", "columns": ["weight"]}


def test_a_join_opens_what_a_request_may_name(origin: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = origin
    file = f"{url}/nano/a.root"

    def joined(*replace: str) -> Any:
        join = {**JOIN, "replace": replace}
        selection = raw(treename="Events", expressions=["event"], join=join)
        return columns(tmp_path, selection, file, local_files=False)

    assert len(joined("/nano/", "/scores/").weight) == 10
    local = folder / "scores" / "a.root"
    for elsewhere in (str(local), f"file://{local}", f"simplecache::file://{local}"):
        with pytest.raises(TransformError, match="give root:// or https://"):
            joined(file, elsewhere)
    with pytest.raises(TransformError, match="give root:// or https://"):
        joined("http://", "reference://a::http://")


@pytest.mark.parametrize("address", [address for address in REFUSED if address])
def test_a_finder_hands_out_what_is_opened(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = "root://host//a.root"
    listing = [{"paths": [good, address], "size": 1, "events": 0, "adler32": ""}]
    monkeypatch.setattr(finders, "rucio", lambda *_: listing)
    assert [file["paths"] for file in finders.find("rucio://a:b", Finders())] == [[good]]
    listing[0]["paths"] = [address]
    with pytest.raises(LookupFailedError, match="a file of rucio://a:b cannot be read"):
        finders.find("rucio://a:b", Finders())


def test_a_listing_has_each_file_once() -> None:
    a, b, replica = "root://h//a.root", "root://h//b.root", "davs://h/a.root"
    listing = [
        *({"paths": [a], "size": 1}, {"paths": [b], "size": 2}, {"paths": [a, replica], "size": 1}),
        *({"paths": ["root://h:1094//b.root"], "size": 2}, {"paths": [replica], "size": 1}),
    ]
    assert addresses.distinct(listing) == [
        {"paths": [a, replica], "size": 1},
        {"paths": [b], "size": 2},
    ]


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        (["a", "b", "ab"], ["ab"]),
        (["a", "b", "c", "ca", "bc"], ["abc"]),
        (["a", "b", "bc", "d", "cd"], ["a", "bcd"]),
        (["ab", "cd", "ef", "gh"], ["ab", "cd", "ef", "gh"]),
        (["ab", "ba", "bb", "c"], ["ab", "c"]),
        ([], []),
    ],
)
def test_a_file_s_replicas_are_listed_apart_or_together(
    listing: list[str], expected: list[str]
) -> None:
    """Each letter is a replica."""
    files = [
        {"paths": [f"root://h//{name}" for name in names], "number": number}
        for number, names in enumerate(listing)
    ]
    distinct = addresses.distinct(files)
    assert ["".join(path[-1] for path in file["paths"]) for file in distinct] == expected
    firsts = [file["paths"][0] for file in distinct]
    assert firsts == [files[file["number"]]["paths"][0] for file in distinct]


def test_many_files_that_are_linked_one_to_the_next_are_one() -> None:
    names = [f"root://h//{number}" for number in range(3000)]
    links = [{"paths": [first, second]} for first, second in itertools.pairwise(names)]
    for listing in (links, links[::-1]):
        (file,) = addresses.distinct([*({"paths": [name]} for name in names), *listing])
        assert sorted(file["paths"]) == sorted(names)


@pytest.mark.parametrize("finder", ["rucio", "xrootd", "cern_open_data"])
def test_every_finder_hands_out_each_file_once(
    finder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"root://h//{name}.root" for name in "ab"]
    listing = [{"paths": [name], "size": 1, "events": 0, "adler32": ""} for name in 5 * names]
    monkeypatch.setattr(finders, finder, lambda *_: listing)
    scheme = finder.replace("cern_open_data", "cernopendata")
    files = finders.find(f"{scheme}://x", Finders())
    assert [file["paths"] for file in files] == [[name] for name in names]
