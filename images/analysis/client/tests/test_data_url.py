import pytest
from coffea_shoppe import data_url
from coffea_shoppe_contract import ENV_XCACHE

REMOTE = "root://origin.example//store/f.root"


@pytest.fixture
def facility(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_XCACHE, "xcache=root://x:1094,cms=root://c:1094?origin=cms.example:1094")


@pytest.mark.usefixtures("facility")
def test_a_remote_file_is_read_through_the_default_cache() -> None:
    assert data_url(REMOTE) == "root://x:1094//root://origin.example:1094//store/f.root"


@pytest.mark.usefixtures("facility")
def test_asking_twice_changes_nothing() -> None:
    assert data_url(data_url(REMOTE)) == data_url(REMOTE)


@pytest.mark.usefixtures("facility")
def test_a_named_cache_is_used() -> None:
    url = "root://cms.example//store/f.root"
    assert data_url(url, cache="cms") == "root://c:1094//store/f.root"


@pytest.mark.usefixtures("facility")
def test_the_cache_of_the_origin_is_used_without_a_name() -> None:
    assert data_url("root://cms.example//store/f.root") == "root://c:1094//store/f.root"


def test_an_origin_without_a_cache_is_read_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_XCACHE, "cms=root://c:1094?origin=cms.example:1094")
    assert data_url(REMOTE) == REMOTE
    with pytest.raises(ValueError, match=r"'cms' serves cms\.example:1094 only"):
        data_url(REMOTE, cache="cms")


@pytest.mark.usefixtures("facility")
def test_an_unknown_cache_is_refused_with_those_there_are() -> None:
    message = "cache: there is no cache 'atlas' in this facility; give one of xcache, cms, or leave"
    with pytest.raises(ValueError, match=message):
        data_url(REMOTE, cache="atlas")


@pytest.mark.usefixtures("facility")
def test_a_cache_refuses_other_protocols_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="only root:// addresses; give one, or leave cache out"):
        data_url("https://host/f.root", cache="cms")


def test_outside_of_a_facility_a_named_cache_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV_XCACHE, raising=False)
    with pytest.raises(ValueError, match="no cache 'cms' in this facility; leave cache out"):
        data_url(REMOTE, cache="cms")


@pytest.mark.usefixtures("facility")
@pytest.mark.parametrize("url", ["/home/jovyan/f.root", "f.root", "https://host/f.root"])
def test_what_no_cache_serves_comes_back_as_it_is(url: str) -> None:
    assert data_url(url) == url


def test_outside_of_a_facility_the_origin_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV_XCACHE, raising=False)
    assert data_url(REMOTE) == REMOTE
