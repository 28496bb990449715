import io
import threading
from pathlib import Path

import pytest
from rich.console import Console
from rich.status import Status
from shoppe_ci import progress


@pytest.fixture(autouse=True)
def output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=text, force_terminal=False))
    monkeypatch.setenv(progress.RECORD, str(tmp_path / "steps"))
    return text


def test_a_step_is_recorded_by_its_title_without_what_changes(output: io.StringIO) -> None:
    assert progress.recorded() == []
    with progress.step("building helm", "v3"):
        pass
    (recorded,) = progress.recorded()
    assert recorded.title == "building helm"
    assert 0 <= recorded.seconds < 5
    assert "✓ building helm v3" in output.getvalue()


def test_without_a_record_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(progress.RECORD)
    with progress.step("building helm"):
        pass
    assert progress.recorded() == []


def test_a_failed_step_is_shown_and_not_recorded(output: io.StringIO) -> None:
    with pytest.raises(ValueError, match="broken"), progress.step("building helm"):
        raise ValueError("broken")
    assert progress.recorded() == []
    assert "✗ building helm" in output.getvalue()


def test_each_line_of_steps_beside_each_other_names_its_step(
    monkeypatch: pytest.MonkeyPatch, output: io.StringIO
) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT_S", 0.01)
    both = threading.Barrier(2)
    beaten = threading.Event()
    real = progress.say

    def say(message: str) -> None:
        real(message)
        if "[3/7]" in message:
            beaten.set()

    monkeypatch.setattr(progress, "say", say)

    def work(name: str, detail: str) -> None:
        with progress.step(name) as note:
            both.wait(5)
            note(detail)
            assert beaten.wait(5)

    threads = [threading.Thread(target=work, args=names) for names in (("a", "[3/7]"), ("b", ""))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {recorded.title for recorded in progress.recorded()} == {"a", "b"}
    lines = output.getvalue().splitlines()
    assert any(line.startswith("  … a: ") and line.endswith("[3/7]") for line in lines)
    assert all(line.split()[1].rstrip(":") in "ab" for line in lines)


def test_one_spinner_shows_all_steps_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(
        progress, "console", Console(file=text, force_terminal=True, width=120, color_system=None)
    )
    shown = threading.Event()
    real = Status.update

    def update(status: Status, line: str) -> None:
        real(status, line)
        if "outer" in line and "inner" in line:
            shown.set()

    monkeypatch.setattr(Status, "update", update)
    with progress.step("outer"), progress.step("inner") as note:
        note("a [bracket")
        assert shown.wait(5)
    assert "✓ outer" in text.getvalue()
    assert "✓ inner" in text.getvalue()
    assert progress._spinner == []
