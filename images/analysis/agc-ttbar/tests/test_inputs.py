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
from agc.samples import (
    File,
    InputError,
    Sample,
    parse_input,
    parse_inputs,
    read_fileset,
    sample,
)
from agc.synth import write
from click.testing import CliRunner
from XRootD.client import EnvGetInt, EnvPutInt

SIGNED = "https://h/f.root?X-Amz-Date=20260101T00:00:00Z&X-Amz-Signature=5ec7e7"


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
        ("f.root:Events", File(Sample("ttbar"), "f.root")),
        ("f.root:/Events;1=wjets", File(Sample("wjets"), "f.root")),
        ("f.pool.root.1:Events=ttbar:ME_var", File(Sample("ttbar", "ME_var"), "f.pool.root.1")),
        ("root://h:1094//a/f:Events", File(Sample("ttbar"), "root://h:1094//a/f")),
        ("root://h:1094//f", File(Sample("ttbar"), "root://h:1094//f")),
        ("year=2016/ü f.root", File(Sample("ttbar"), "year=2016/ü f.root")),
        (SIGNED, File(Sample("ttbar"), SIGNED)),
        (f"{SIGNED}=wjets", File(Sample("wjets"), SIGNED)),
        (f"{SIGNED}:Events=ttbar:PS_var", File(Sample("ttbar", "PS_var"), SIGNED)),
        (f"{SIGNED}==", File(Sample("ttbar"), f"{SIGNED}==")),
        (f"{SIGNED}=tail", File(Sample("ttbar"), f"{SIGNED}=tail")),
        ("https://h/f.root?process=wjets", File(Sample("ttbar"), "https://h/f.root?process=wjets")),
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
        (
            "f.root:nominal",
            "f.root: the analysis reads the tree 'Events' of NanoAOD, not 'nominal'",
        ),
        ("data/*.none", r"data/\*\.none: no file matches"),
        ("root://h//a/*.root", "patterns are for local files; list each URL"),
    ],
)
def test_unknown_names_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_inputs([text])


@pytest.mark.parametrize(
    "name", ["my file.root", "ü:x.root", "f.root:Events", "a=wjets", "[1].root", "100%.root", "q?#"]
)
def test_a_file_of_exactly_that_name_comes_first(
    good: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).hardlink_to(good)
    assert parse_inputs([name]) == [File(Sample("ttbar"), name)]
    assert sum(run(parse_inputs([name]), progress=False).events.values()) == 300


def test_a_pattern_is_the_files_of_that_name_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "a[1]"
    (folder / "below").mkdir(parents=True)
    for name in ("b.root", "a.root", "c.txt", "below/d.root"):
        (folder / name).touch()
    paths = [str(folder / name) for name in ("a.root", "b.root", "below/d.root")]
    listing = folder / "fileset.json"

    def listed(pattern: str, **entry: int) -> list[str]:
        files = [{"path": pattern, **entry}]
        listing.write_text(json.dumps({"ttbar": {"nominal": {"files": files}}}))
        return [file.path for file in read_fileset(listing)]

    assert listed("*.root") == paths[:2]
    assert listed("**/*.root:Events") == paths
    assert listed("a.root", nevts=3) == paths[:1]
    assert [file.path for file in read_fileset(listing, limit=1)] == paths[:1]
    with pytest.raises(InputError, match="nevts is of one file"):
        listed("*.root", nevts=3)
    (found,) = parse_inputs([f"{tmp_path}/?*/below/*.root=wjets"])
    assert found == File(Sample("wjets"), paths[2])


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://u:5ec7e7@127.0.0.1:9/f.root?sig=5ec7e7", "https://127.0.0.1:9/f.root?…"),
        ("https://127.0.0.1:9/f.root?sig=5ec7e7=wjets:x", "no variation 'x'"),
        ("https://127.0.0.1:9/*.root?sig=5ec7e7", "https://127.0.0.1:9/*.root?…"),
        ("https://127.0.0.1:9/f.root?sig=5ec7e7:nominal", "https://127.0.0.1:9/f.root?…"),
    ],
)
def test_the_command_prints_no_secret_of_a_url(address: str, told: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["run", "--input", address, "--output", str(tmp_path / "h")])
    assert done.exit_code == 1
    assert told in done.output
    assert "5ec7e7" not in done.output
    assert done.exc_info is None or "5ec7e7" not in str(done.exception)


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
    assert "has no tree 'Events' (it has: Trees)" in lines[2]
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
    with pytest.warns(UserWarning, match=r"wjets__nominal: weights are for the 1,000 events"):
        found = fileset(twice)
    assert found["ttbar__nominal"]["metadata"]["weight"] == pytest.approx(729.84 * 3378 / 300)
    weight = found["wjets__nominal"]["metadata"]["weight"]
    assert weight == pytest.approx(61457 * 0.252 * 3378 / 1000)


def listed(good: Path, folder: Path, events: object) -> Path:
    """Return a fileset whose one file is said to have so many events."""
    path = folder / "fileset.json"
    entry = {"files": [{"path": str(good), "nevts": events}]}
    path.write_text(json.dumps({"ttbar": {"nominal": entry}}))
    return path


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (150, "nevts), but its files have 300; a skim cannot have more than its nevts"),
        (600, "nevts), but its files have 300; that is right for a skim"),
    ],
)
def test_another_number_of_events_is_said_in_output_and_report(
    good: Path, tmp_path: Path, events: int, told: str
) -> None:
    words = ["run", "--fileset", str(listed(good, tmp_path, events))]
    words += ["--output", str(tmp_path / "h.root"), "--report", str(tmp_path / "report.json")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert f"note: ttbar__nominal: weights are for the {events} events" in done.output
    assert told in done.output
    (note,) = json.loads((tmp_path / "report.json").read_text())["notes"]
    assert told in note
    assert told in (tmp_path / "report.html").read_text()
    counted = CliRunner().invoke(main, [*words, "--weights", "unit"])
    assert "note:" not in counted.output, "nothing depends on it there"


def test_the_right_number_of_events_needs_no_word(good: Path, tmp_path: Path) -> None:
    found = read_fileset(listed(good, tmp_path, 300))
    assert run(found, progress=False).notes == []


@pytest.mark.parametrize("events", [-1, "1000", 1000.5, True, [1]])
def test_a_number_of_events_that_is_none_is_refused(
    good: Path, tmp_path: Path, events: object
) -> None:
    with pytest.raises(InputError, match=r"good\.root: nevts is .*; give the number"):
        read_fileset(listed(good, tmp_path, events))


def test_no_events_are_not_taken_for_an_unknown_number(good: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ttbar__nominal has no events"):
        run(read_fileset(listed(good, tmp_path, 0)), progress=False)
    assert run(read_fileset(listed(good, tmp_path, None)), progress=False).notes == []


def test_alternative_samples_fill_just_their_own_name(good: Path) -> None:
    report = run([File(Sample("ttbar", "PS_var"), str(good))], progress=False)
    assert set(report.histograms) <= {"4j1b_ttbar_PS_var", "4j2b_ttbar_PS_var"}
    assert report.histograms


@pytest.mark.parametrize(
    "content",
    ["[]", "{", '{"ttbar": {"nominal": {}}}', "{}", '{"ttbarr": {"nominal": {"files": []}}}'],
)
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
