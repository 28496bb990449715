from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shoppe_ci import shell
from shoppe_ci.errors import ShoppeError


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SHOPPE_CACHE", str(tmp_path))
    return tmp_path


def test_output_comes_back_and_the_log_of_a_success_goes(cache: Path) -> None:
    seen: list[str] = []
    text = shell.run(["sh", "-c", "echo one; echo two >&2"], note=seen.append)
    assert sorted(text.split()) == ["one", "two"]
    assert sorted(seen) == ["one", "two"]
    assert list((cache / "logs").iterdir()) == []


def test_a_failure_shows_its_tail_names_its_log_and_the_remedy(cache: Path) -> None:
    with pytest.raises(ShoppeError) as failed:
        shell.run(["sh", "-c", "echo the reason; exit 3"], what="the work", remedy="rest")
    assert "the work failed with status 3" in failed.value.problem
    assert "the reason" in failed.value.problem
    (log,) = (cache / "logs").iterdir()
    assert str(log) in failed.value.problem
    assert failed.value.remedy == "rest"


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ShoppeError, match="'no-such-program' is missing"):
        shell.run(["no-such-program"])


def test_standard_input_is_passed_on() -> None:
    assert shell.run(["cat"], stdin=b"text") == "text"


def test_runs_side_by_side_do_not_share_a_log() -> None:
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: shell.run(["echo", str(n)]), range(40)))
    assert texts == [f"{n}\n" for n in range(40)]
