"""A file that is given twice is refused by name, wherever lists of files come from."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from agc import reana, training
from agc.cli import main
from agc.run import fileset, read_only, run
from agc.samples import File, InputError, Sample, check_files, read_fileset, sample
from agc.synth import write
from click.testing import CliRunner
from shoppe_ci.analysis import check_inputs
from shoppe_ci.errors import ShoppeError

TTBAR = Sample("ttbar")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twice")
    write(path / "f.root", sample("ttbar"), events=2_000)
    write(path / "g.root", sample("ttbar"), events=2_000, seed=2)
    (path / "link.root").symlink_to("f.root")
    (path / "linked").symlink_to(".")
    return path


def agc_run(folder: Path, *names: str) -> tuple[int, str]:
    words = [word for name in names for word in ("--input", str(folder / name))]
    output = ["--output", str(folder / "h.root")]
    done = CliRunner().invoke(main, ["run", *words, *output, "--weights", "unit"])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    "again", ["f.root", "../{name}/f.root", "link.root", "linked/f.root", "f.root=ttbar"]
)
def test_the_command_refuses_one_file_in_two_spellings(folder: Path, again: str) -> None:
    code, output = agc_run(folder, "f.root", again.format(name=folder.name))
    assert code == 1
    assert "in ttbar__nominal: list each file once" in output
    assert str(folder / "f.root") in output
    assert "events in" not in output, "and nothing is processed"


def test_the_command_takes_two_files(folder: Path) -> None:
    code, output = agc_run(folder, "f.root", "g.root")
    assert code == 0, output
    assert "4000 events in" in output


def test_relative_spellings_are_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(
        InputError, match=r"^\./x/\.\./f\.root is the same file as f\.root in ttbar__nom"
    ):
        check_files([File(TTBAR, "f.root"), File(TTBAR, "./x/../f.root")])


@pytest.mark.parametrize(
    "again",
    [
        "root://H:1094//a//f.root",
        "root://cache//root://h//a/f.root",
        "root://h//a/f.root?authz=s3c",
    ],
)
def test_urls_in_two_spellings_are_one_and_no_secret_is_shown(again: str) -> None:
    with pytest.raises(InputError, match="list each file once") as refused:
        run([File(TTBAR, "root://h//a/f.root"), File(TTBAR, again)], progress=False)
    assert "s3c" not in str(refused.value)


@pytest.mark.parametrize(
    "use",
    [
        fileset,
        lambda files: run(files, progress=False),
        lambda files: run(files, source="servicex", progress=False),
        lambda files: read_only(files, 15, progress=False),
        lambda files: training.collect(files, progress=False),
        lambda files: reana.export(files, Path("never-written"), image="i"),
    ],
)
def test_every_way_in_refuses_it(folder: Path, use: Callable[[list[File]], object]) -> None:
    files = [File(TTBAR, str(folder / "f.root"), 2_000), File(TTBAR, str(folder / "link.root"), 2)]
    with pytest.raises(InputError, match=r"link\.root is the same file as .*f\.root"):
        use(files)


def test_one_file_may_stand_for_two_samples(folder: Path) -> None:
    both = [File(TTBAR, str(folder / "f.root")), File(Sample("wjets"), str(folder / "f.root"))]
    assert set(fileset(both)) == {"ttbar__nominal", "wjets__nominal"}


def test_a_long_list_of_repetitions_is_cut() -> None:
    with pytest.raises(InputError, match="and 20 more") as refused:
        check_files([File(TTBAR, "root://h//f.root")] * 31)
    assert len(str(refused.value).splitlines()) == 11


def test_a_fileset_with_one_name_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fileset.json"
    entry = json.dumps({"nominal": {"files": [{"path": "a.root"}]}})
    path.write_text(f'{{"ttbar": {entry}, "ttbar": {entry}}}')
    with pytest.raises(InputError, match="two entries ttbar: merge them"):
        read_fileset(path)
    path.write_text(f'{{"ttbar": {entry}, "wjets": {entry}}}')
    assert len(read_fileset(path)) == 2


def test_the_demonstration_refuses_it_before_anything_is_copied(folder: Path) -> None:
    with pytest.raises(ShoppeError, match="list each file once"):
        check_inputs((str(folder / "f.root"), str(folder / "link.root")))
    taken = check_inputs((str(folder / "f.root"), f"{folder / 'g.root'}=wjets"))
    assert [process for _, process, _ in taken] == ["ttbar", "wjets"]
