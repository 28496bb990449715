"""The benchmark measures what it says; how fast that is, a test does not judge."""

import time
from pathlib import Path

import pytest
from agc import benchmark, benchmark_stages, benchmark_upstream
from agc.samples import File, InputError, sample
from agc.synth import write

EVENTS = 8_000
UPSTREAM = """
import helpers
from coffea import processor

class TtbarAnalysis(processor.ProcessorABC):
    def __init__(self, use_inference, use_triton):
        self.scale = int(open("scale.txt").read())

    def process(self, events):
        return {"jets": helpers.jets(events) * self.scale}

    def postprocess(self, accumulator):
        return accumulator

raise SystemExit("only definitions are of use")
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("benchmark") / "ttbar.root"
    write(target, sample("ttbar"), events=EVENTS)
    return str(target)


def test_a_file_is_measured_with_and_without_models(path: str, tmp_path: Path) -> None:
    measured = benchmark.measure({"demo": path}, None, repeats=1)
    assert min(measured["nodes"]) > 100
    result = measured["files"]["demo"]
    assert (result["events"], result["branches"]) == (EVENTS, 37)
    for kind in ("plain", "assigned"):
        stages = result[kind]["stages"]
        assert set(stages) == {*benchmark_stages.STAGES, "other", "total"}
        assert sum(stages.values()) == pytest.approx(2 * stages["total"])
        assert min(result[kind]["read"], result[kind]["run"]) > 0
        used = ("open", "read", "decompress", "select", "vary", "fill")
        assert min(stages[stage] for stage in used) > 0
    assert result["plain"]["stages"]["infer"] == 0 < result["assigned"]["stages"]["infer"]
    with pytest.raises(InputError, match="agc train"):
        benchmark.measure({"demo": path}, tmp_path, repeats=1)


def test_a_stage_is_without_the_stages_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def burn(seconds: float) -> None:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass

    class Work:
        @classmethod
        def outer(cls) -> None:
            burn(0.04)
            cls.inner()

        @staticmethod
        def inner() -> None:
            burn(0.02)

    monkeypatch.setattr(benchmark_stages, "Work", Work, raising=False)
    stages = {name: (f"agc.benchmark_stages:Work.{name}",) for name in ("outer", "inner")}
    monkeypatch.setattr(benchmark_stages, "STAGES", stages)
    spent = benchmark_stages.by_stage(lambda: (Work.outer(), Work.inner()))
    assert spent["outer"] == pytest.approx(0.04, rel=0.3)
    assert spent["inner"] == pytest.approx(0.04, rel=0.3)
    monkeypatch.setattr(benchmark_stages, "STAGES", {"gone": ("agc.selection:gone",)})
    with pytest.raises(AttributeError, match=r"agc\.selection:gone does not exist: adapt"):
        benchmark_stages.by_stage(lambda: None)


def test_a_processor_runs_from_its_checkout(path: str, tmp_path: Path) -> None:
    folder = tmp_path / benchmark_upstream.FOLDER
    folder.mkdir(parents=True)
    file = File(sample("ttbar"), path)
    with pytest.raises(InputError, match=r"has no .*ttbar_analysis_pipeline.py; clone"):
        benchmark_upstream.task(tmp_path, file, models=False)
    (folder / benchmark_upstream.SCRIPT).write_text(UPSTREAM)
    (folder / "helpers.py").write_text("def jets(events):\n    return len(events)\n")
    (folder / "scale.txt").write_text("3")
    for checkout in (tmp_path, folder):
        assert benchmark_upstream.task(checkout, file, models=False)() == {"jets": 3 * EVENTS}
