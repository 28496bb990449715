"""What is wrong with an input is said by name, and nothing is processed."""

import json
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from agc.cli import main
from agc.run import fileset, run
from agc.samples import File, InputError, Sample, parse_input, read_fileset, sample
from agc.synth import write
from click.testing import CliRunner
from XRootD.client import EnvGetInt, EnvPutInt


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.root"
    write(path, sample("ttbar"), events=300)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f.root", File(Sample("ttbar"), "f.root")),
        ("f.root=wjets", File(Sample("wjets"), "f.root")),
        ("f.root=ttbar:ME_var", File(Sample("ttbar", "ME_var"), "f.root")),
        ("root://h//a/f.root=wjets", File(Sample("wjets"), "root://h//a/f.root")),
    ],
)
def test_inputs_name_file_process_and_variation(text: str, expected: File) -> None:
    assert parse_input(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f.root=tt", "unknown process 'tt'; there are: ttbar"),
        ("f.root=wjets:ME_var", "has no variation 'ME_var'; it has: nominal"),
        ("", "is empty"),
    ],
)
def test_unknown_names_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_input(text)


def test_every_unusable_file_is_named_at_once(good: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.root"
    text.write_text("not ROOT at all" * 100)
    other = tmp_path / "other.root"
    with uproot.recreate(other) as file:
        file.mktree("Trees", {"x": np.float64}).extend({"x": np.zeros(3)})
    bare = tmp_path / "bare.root"
    with uproot.recreate(bare) as file:
        tree = file.mktree("Events", {"event": np.uint64, "Jet": ak.Array([[{"pt": 1.0}]]).type})
        tree.extend({"event": np.zeros(1, np.uint64), "Jet": ak.Array([[{"pt": 1.0}]])})
    paths = [good, tmp_path / "absent.root", text, other, bare]
    with pytest.raises(InputError) as refused:
        fileset([File(Sample("ttbar"), str(path)) for path in paths])
    lines = str(refused.value).splitlines()
    assert len(lines) == 4
    assert "absent.root: no such file" in lines[0]
    assert "text.root: not a ROOT file" in lines[1]
    assert "has no tree 'Events' (it holds: Trees)" in lines[2]
    assert "bare.root: lacks the branches" in lines[3]
    assert "Jet_btagCSVV2" in lines[3]


@pytest.fixture
def impatient() -> Iterator[None]:
    """XRootD's client gives an origin up after two seconds, not two minutes."""
    usual = {name: EnvGetInt(name) for name in ("ConnectionWindow", "ConnectionRetry")}
    for name, value in (("ConnectionWindow", 2), ("ConnectionRetry", 1)):
        EnvPutInt(name, value)
    yield
    for name, value in usual.items():
        EnvPutInt(name, value)


@pytest.mark.usefixtures("impatient")
def test_an_origin_that_is_down_is_named() -> None:
    with pytest.raises(InputError, match=r"root://127.0.0.1:9//x.root: cannot be opened"):
        fileset([File(Sample("ttbar"), "root://127.0.0.1:9//x.root")])


def test_weights_count_the_events_of_all_files_of_a_sample(good: Path) -> None:
    twice = [File(Sample("ttbar"), str(good)), File(Sample("wjets"), str(good), events=1000)]
    found = fileset(twice)
    assert found["ttbar__nominal"]["metadata"]["weight"] == pytest.approx(729.84 * 3378 / 300)
    weight = found["wjets__nominal"]["metadata"]["weight"]
    assert weight == pytest.approx(61457 * 0.252 * 3378 / 1000)


def test_alternative_samples_fill_just_their_own_name(good: Path) -> None:
    report = run([File(Sample("ttbar", "PS_var"), str(good))], progress=False)
    assert set(report.histograms) <= {"4j1b_ttbar_PS_var", "4j2b_ttbar_PS_var"}
    assert report.histograms


@pytest.mark.parametrize("content", ["[]", "{", '{"ttbar": {"nominal": {}}}', "{}"])
def test_a_malformed_fileset_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "fileset.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"fileset\.json"):
        read_fileset(path)


def test_a_fileset_is_relative_to_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "fileset.json"
    files = [{"path": "a.root", "nevts": 5}, {"path": "root://h//b.root", "nevts": 7}]
    path.write_text(json.dumps({"wjets": {"nominal": {"files": files}}}))
    found = read_fileset(path)
    assert [file.path for file in found] == [str(tmp_path / "a.root"), "root://h//b.root"]
    assert [file.events for file in read_fileset(path, limit=1)] == [5]


def test_the_command_runs_plots_and_validates(good: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    out = tmp_path / "h.root"
    done = runner.invoke(main, ["run", "--input", str(good), "--output", str(out)])
    assert done.exit_code == 0, done.output
    assert "300 events" in done.output
    drawn = runner.invoke(main, ["plot", str(out), "--output", str(tmp_path / "plots")])
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "plots" / "4j2b.png").exists()
    reference = tmp_path / "reference.json"
    reference.write_text("{}")
    compared = runner.invoke(main, ["validate", str(out), "--reference", str(reference)])
    assert compared.exit_code == 1
    assert "not in the reference" in compared.output


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["run", "--input", str(tmp_path / "absent.root")])
    assert done.exit_code == 1
    assert "absent.root: no such file" in done.output
    assert "Traceback" not in done.output
