"""The check of names: vague ones are refused wherever code assigns them."""

from pathlib import Path

import pytest
from shoppe_ci import words

FILE = Path("/project/ci/module.py")


def names(source: str) -> list[words.Name]:
    return list(words.assigned_names(source, FILE))


@pytest.mark.parametrize(
    "template",
    [
        "{0} = 1",
        "{0}: int = 1",
        "{0} += 1",
        "first, *{0} = [1]",
        "for {0} in []: pass",
        "with open('a') as {0}: pass",
        "[1 for {0} in []]",
        "print({0} := 1)",
        "def {0}(): pass",
        "async def {0}(): pass",
        "class {0}: pass",
        "def f({0}): pass",
        "def f(*, {0}=1): pass",
        "def f(**{0}): pass",
        "lambda {0}: 1",
        "import os as {0}",
        "try: pass\nexcept OSError as {0}: pass",
        "match 1:\n case {0}: pass",
        "match []:\n case [*{0}]: pass",
        "match {{}}:\n case {{**{0}}}: pass",
        "class A:\n def f(self): self.{0} = 1",
    ],
)
def test_a_vague_name_is_refused_wherever_it_is_assigned(template: str) -> None:
    (problem,) = words.vague(names(template.format("found")), Path("/project"))
    assert problem.startswith("ci/module.py:")
    assert "'found'" in problem
    assert words.vague(names(template.format("match_count")), Path("/project")) == []


@pytest.mark.parametrize(
    "name", ["TOLD", "_kept", "one_", "files_kept", "WANTED_ANNOTATION", "bytesHeld", "AskedError"]
)
def test_case_and_longer_names_hide_no_vague_word(name: str) -> None:
    assert len(words.vague(names(f"{name} = 1"), Path("/project"))) == 1


@pytest.mark.parametrize(
    "name", ["foundation", "_NOT_FOUND", "one_lepton", "OneLineFormatter", "phones", "WHOLESALE"]
)
def test_allowed_names_and_longer_words_are_not_refused(name: str) -> None:
    assert words.vague(names(f"{name} = 1"), Path("/project")) == []


@pytest.mark.parametrize("argument", ["alias", "serialization_alias"])
def test_a_vague_alias_of_a_field_is_refused(argument: str) -> None:
    field = "requested_at: float = Field(default=0, {}='{}')"
    refused = words.vague(names(field.format(argument, "asked")), Path("/project"))
    assert refused == ["ci/module.py:1: 'asked' does not say what it is"]
    assert words.vague(names(field.format(argument, "requestedAt")), Path("/project")) == []


@pytest.mark.parametrize(
    "source",
    [
        "client.found = 1",
        "print(client.told)",
        "call(asked=1)",
        "row['held'] = 1",
        "# found\n'told'",
        "call(name='asked')",
    ],
)
def test_names_of_libraries_and_texts_are_not_refused(source: str) -> None:
    assert words.vague(names(source), Path("/project")) == []


@pytest.mark.parametrize(
    ("phrase", "instead"),
    [
        ("waits for ever", "never waits"),
        ("Besides, it reads", "In addition, it reads"),
        ("fetches anew", "fetches again"),
        ("Most files per sample", "Most files have no such tree"),
        ("the least severity", "the minimum severity"),
        ("largest number of rows", "largest difference of rows"),
    ],
)
def test_refused_phrases_are_detected_in_comments_and_strings(phrase: str, instead: str) -> None:
    templates = ('"""Reads\n\n{}.\n"""', "x = 1  # {}", "raise ValueError(f'{{x}}: {}')")
    for template in templates:
        texts = words.python_texts(template.format(phrase))
        (problem,) = words.refused_phrases(texts, FILE, Path("/project"))
        assert problem.startswith("ci/module.py:1: ")
        texts = words.python_texts(template.format(instead))
        assert words.refused_phrases(texts, FILE, Path("/project")) == []


def test_a_phrase_may_continue_on_the_next_line() -> None:
    split = '"""It waits for\never."""'
    assert words.refused_phrases(words.python_texts(split), FILE, Path("/project"))
    values = "a:\n  # It waits for\n  # ever.\n  b: 1\n# Good.\n"
    assert list(words.value_comments(values)) == [(2, "It waits for ever."), (5, "Good.")]


def test_code_is_no_sentence() -> None:
    assert list(words.python_texts("besides = anew(besides)\n")) == []


def test_sentences_of_code_and_values_are_checked(tmp_path: Path) -> None:
    root = project(tmp_path, command="# again\n", test="# anew\n")
    values = root / "charts" / "any" / "values.yaml"
    values.parent.mkdir()
    values.write_text("# Minimum severity.\nlevel: INFO\n")
    assert words.sentence_problems(root) == []
    values.write_text("# Least severity.\nlevel: INFO\n")
    (root / "ci" / "shoppe").write_text("# once more\n")
    assert words.sentence_problems(root) == [
        "ci/shoppe:1: 'once more': say again",
        "charts/any/values.yaml:1: 'Least severity': say maximum or minimum, and of what",
    ]


def test_generic_names_count_where_they_are_frequent() -> None:
    rare = "\n".join(f"name_{number} = name_{number} = 1" for number in range(100))
    assert words.generic_share(names(f"{rare}\ndata = 1")) == 0
    assert words.generic_share(names(f"{rare}\n" + "data = 1\n" * 200)) == 0.5


def project(root: Path, **sources: str) -> Path:
    for folder in ("ci", "charts/tests"):
        (root / folder).mkdir(parents=True)
    (root / "ci" / "shoppe").write_text(sources["command"])
    (root / "charts" / "tests" / "test_a.py").write_text(sources["test"])
    return root


def test_tests_are_not_checked_and_the_command_is(tmp_path: Path) -> None:
    sources = {"command": "found = 1\n", "test": "told = 1\n"}
    assert words.problems(project(tmp_path, **sources)) == [
        "ci/shoppe:1: 'found' does not say what it is"
    ]


def test_a_project_with_good_names_has_no_problems(tmp_path: Path) -> None:
    assert words.problems(project(tmp_path, command="folder = 1\n", test="told = 1\n")) == []


def test_too_many_generic_names_are_a_problem(tmp_path: Path) -> None:
    (problem,) = words.problems(project(tmp_path, command="data = 1\nname = 2\n", test=""))
    assert problem.startswith("50.0% of all assigned names are generic (data, ")
