"""The check of commit subjects, in repositories of its own."""

import re
import subprocess
from pathlib import Path

import pytest
from shoppe_ci import history, shell
from shoppe_ci.paths import ROOT

LONG = "x" * 73
PAGES = sorted((ROOT / "docs" / "contributing").glob("*.md"))
EXAMPLE = re.compile(r'^Example: the commit "(.*?)"', re.MULTILINE)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)


def commit(folder: Path, subject: str) -> None:
    git(folder, "commit", "--quiet", "--allow-empty", f"--message={subject}")


def test_a_subject_of_72_characters_is_accepted(repository: Path) -> None:
    commit(repository, "x" * 72)
    assert history.long_subjects(repository) == []


def test_a_longer_subject_is_named(repository: Path) -> None:
    commit(repository, LONG)
    (problem,) = history.long_subjects(repository)
    assert problem.endswith(f": 73 characters: {LONG}")


def test_only_commits_since_the_upstream_branch_are_checked(repository: Path) -> None:
    commit(repository, LONG)
    git(repository, "update-ref", "refs/remotes/origin/main", "HEAD")
    assert history.long_subjects(repository) == []
    commit(repository, LONG)
    assert len(history.long_subjects(repository)) == 1


def test_old_commits_are_not_checked(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "RECENT", 1)
    commit(repository, LONG)
    assert len(history.long_subjects(repository)) == 1
    commit(repository, "Short")
    assert history.long_subjects(repository) == []


def test_a_shallow_clone_is_checked(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    commit(repository, LONG)
    commit(repository, LONG)
    clone = tmp_path_factory.mktemp("clone")
    git(clone, "clone", "--quiet", "--depth=1", repository.as_uri(), ".")
    git(clone, "update-ref", "-d", "refs/remotes/origin/main")
    assert len(history.long_subjects(clone)) == 1


def test_a_merge_is_exempt(repository: Path) -> None:
    commit(repository, "Begin")
    git(repository, "checkout", "--quiet", "-b", "branch")
    commit(repository, "Change")
    git(repository, "checkout", "--quiet", "main")
    git(repository, "merge", "--quiet", "--no-ff", f"--message={LONG}", "branch")
    assert history.long_subjects(repository) == []


def test_a_folder_without_history_has_nothing_to_check(tmp_path: Path) -> None:
    assert history.long_subjects(tmp_path) == []


def test_a_machine_without_git_has_nothing_to_check(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repository, LONG)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert history.long_subjects(repository) == []


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_page_for_contributors_cites_a_commit_of_the_history(page: Path) -> None:
    (subject,) = EXAMPLE.findall(page.read_text())
    assert len(subject) <= history.MAX_LENGTH
    # A shallow clone lacks the commits.
    if shell.run(["git", "rev-parse", "--is-shallow-repository"], cwd=ROOT).strip() == "false":
        assert subject in shell.run(["git", "log", "--format=%s"], cwd=ROOT).splitlines()
