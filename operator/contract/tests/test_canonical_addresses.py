import os
from pathlib import Path

import pytest
from coffea_shoppe_contract.addresses import (
    canonical_address,
    redacted,
    repeated,
    shown_address,
)

SIGNED = "X-Amz-Credential=AKIA%2F1&X-Amz-Signature=5ec7e7"


@pytest.mark.parametrize(
    ("address", "other"),
    [
        ("f.root", "./f.root"),
        ("f.root", "./folder/../f.root"),
        ("f.root", "link.root"),
        ("f.root", "FOLDER/f.root"),
        ("f.root", "file://FOLDER/f.root"),
        ("a b.root", "file://FOLDER/a%20b.root"),
        ("root://h//a/f.root", "root://h/a/f.root"),
        ("root://h//a/f.root", "root://H:1094//a//f.root"),
        ("root://h//a/f.root", "xroot://h.//a/./f.root"),
        ("root://h//a/f.root", "root://me@h//a/b/../f.root"),
        ("root://h//a/f.root", "root://h//a/f.root?authz=Bearer%20s&xrd.wantprot=ztn"),
        ("root://h//a/f.root", "root://cache:1094//root://h:1094//a/f.root"),
        ("root://h//a/f.root", "root://one//root://two:1/xroot://h//a/f.root?authz=s"),
        ("https://h/a/f.root", "https://H:443/b/.././a/f.root"),
        ("https://h/a/f.root", "davs://h/%61/f.root"),
        ("https://h/a/f.root", f"https://h/a/f.root?{SIGNED}"),
        ("https://h/f?id=1&v=2", "https://u:p@h/f?v=2&id=1&token=s"),
        ("https://[2001:DB8::1]/f.root", "https://[2001:db8::1]:443/f.root"),
        ("https://h/a b.root", "https://h/a%20b.root"),
    ],
)
def test_spellings_of_one_file_are_one(
    address: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.root").symlink_to("f.root")
    other = other.replace("FOLDER", str(tmp_path))
    assert canonical_address(address) == canonical_address(other)
    assert repeated(["g.root", address, "h.root", other]) == [(address, other)]


@pytest.mark.parametrize(
    ("address", "other"),
    [
        ("f.root", "F.root"),
        ("f.root", "folder/f.root"),
        ("/a/f.root", "root://h//a/f.root"),
        ("root://h//a/f.root", "root://h:1095//a/f.root"),
        ("root://h//a/f.root", "root://g//a/f.root"),
        ("root://h//a/f.root", "root://h//A/f.root"),
        ("root://c//root://h//f.root", "root://c//root://g//f.root"),
        ("root://h//a.zip?xrdcl.unzip=1.root", "root://h//a.zip?xrdcl.unzip=2.root"),
        ("https://h/a//f.root", "https://h/a/f.root"),
        ("https://h/f?id=1", "https://h/f?id=2"),
        ("https://h/a.zip#1.root", "https://h/a.zip#2.root"),
        ("https://h/a%3Fb", "https://h/a?b"),
        ("https://h:none/f", "https://g:none/f"),
        ("root://h//a b.root", "root://h//a%20b.root"),
    ],
)
def test_different_files_are_different(address: str, other: str) -> None:
    assert canonical_address(address) != canonical_address(other)
    assert repeated([address, other]) == []


def test_each_repetition_is_named_with_the_first() -> None:
    addresses = ["a", "./a", f"{os.curdir}//a", "b"]
    assert repeated(addresses) == [("a", "./a"), ("a", ".//a")]
    assert repeated(["a", "a"]) == [("a", "a")]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("a b?.root", "a b?.root"),
        ("root://h//a/f.root", "root://h//a/f.root"),
        ("https://u:secret@h:1/f.root", "https://h:1/f.root"),
        (f"https://h/f.root?{SIGNED}", "https://h/f.root?…"),
        ("https://h?token=secret/1", "https://h?…"),
        ("root://c//root://u:secret@h//f?authz=secret", "root://c//root://h//f?…"),
    ],
)
def test_what_is_shown_tells_no_secret(address: str, shown: str) -> None:
    assert shown_address(address) == shown
    assert redacted(f"cannot open '{address}': 403") == f"cannot open '{shown}': 403"
    assert redacted(f"{address}: {address}, 403") == f"{shown}: {shown}, 403"
    assert redacted(f"{shown}: 403") == f"{shown}: 403"
