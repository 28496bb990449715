import pytest
from coffea_shoppe_contract import Cache, cache_of, parse_caches

FORWARDING = Cache("any", "root://cache:1094")
FIXED = Cache("one", "root://cache:1094", origin="eospublic.cern.ch:1094")


@pytest.mark.parametrize(
    ("remote", "served"),
    [
        ("root://host//a/b.root", "root://cache:1094//root://host:1094//a/b.root"),
        ("root://host:2094//a/b.root", "root://cache:1094//root://host:2094//a/b.root"),
        ("root://host/a/b.root", "root://cache:1094//root://host:1094//a/b.root"),
        ("xroot://host//a.root?x=1", "root://cache:1094//root://host:1094//a.root?x=1"),
        ("root://host//a#1.root?x=1", "root://cache:1094//root://host:1094//a#1.root?x=1"),
    ],
)
def test_forwarding_cache_keeps_the_origin_in_the_path(remote: str, served: str) -> None:
    assert FORWARDING.url(remote) == served


def test_cache_with_one_origin_takes_the_path_alone() -> None:
    assert FIXED.url("root://eospublic.cern.ch//eos/f.root") == "root://cache:1094//eos/f.root"


def test_cache_with_one_origin_refuses_another() -> None:
    with pytest.raises(ValueError, match=r"'one' serves eospublic\.cern\.ch:1094 only"):
        FIXED.url("root://elsewhere//eos/f.root")


@pytest.mark.parametrize("remote", ["/local/file.root", "https://host/f.root", "root://", "f.root"])
def test_what_no_cache_can_serve_is_refused(remote: str) -> None:
    with pytest.raises(ValueError, match="root://HOST"):
        FORWARDING.url(remote)


def test_caches_are_parsed_in_order() -> None:
    text = "xcache=root://a:1094,cms=root://b:1095?origin=cms.example:1094"
    assert parse_caches(text) == [
        Cache("xcache", "root://a:1094"),
        Cache("cms", "root://b:1095", "cms.example:1094"),
    ]


def test_a_cache_without_a_name_has_that_of_its_host() -> None:
    (cache,) = parse_caches("root://a.b:1094?origin=cms.example")
    assert cache == Cache("a.b", "root://a.b:1094", "cms.example:1094")


@pytest.mark.parametrize(
    ("caches", "chosen"),
    [
        ([FORWARDING, FIXED], FIXED),
        ([FIXED, FORWARDING], FIXED),
        ([FORWARDING], FORWARDING),
        ([FIXED], FIXED),
        ([], None),
    ],
)
def test_the_cache_of_the_origin_comes_first(caches: list[Cache], chosen: Cache | None) -> None:
    assert cache_of(caches, "root://eospublic.cern.ch//eos/f.root") is chosen


def test_another_origin_needs_a_cache_that_forwards() -> None:
    second = Cache("second", "root://other:1094")
    assert cache_of([FIXED, FORWARDING, second], "root://h//f.root") is FORWARDING
    assert cache_of([FIXED], "root://h//f.root") is None


def test_no_caches() -> None:
    assert parse_caches("") == []


def test_a_malformed_entry_is_named() -> None:
    with pytest.raises(ValueError, match="'xcache:root://a' is not NAME="):
        parse_caches("xcache:root://a")
