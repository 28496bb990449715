"""What descriptions of values must say: each fault beside a description without it."""

from pathlib import Path
from typing import Any

import pytest
from shoppe_ci import checks, descriptions, schema
from shoppe_ci.errors import ShoppeError


def test_comments_belong_to_the_key_below_them() -> None:
    text = "# First.\n# Second.\na:\n  # Inner.\n  b: 1\n\n# Lost: a blank line follows.\n\nc: 2\n"
    assert descriptions.comments(text) == {"a": "First. Second.", "a.b": "Inner."}


def test_keys_of_one_line_have_no_comment_of_their_own() -> None:
    text = "# Of both.\na: {b: 1, c: 2}\n# A colon: in a comment, and in a text.\nd: 'x: y'\n"
    assert descriptions.comments(text) == {
        "a": "Of both.",
        "d": "A colon: in a comment, and in a text.",
    }


def test_leaves_are_scalars_lists_and_empty_maps() -> None:
    values = {"a": {"b": 1, "c": {}}, "d": [{"e": 1}], "f": None}
    assert [(path, key) for path, key, _ in descriptions.leaves(values)] == [
        ("a.b", "b"),
        ("a.c", "c"),
        ("d", "d"),
        ("f", "f"),
    ]


@pytest.mark.parametrize(
    ("comment", "lack"),
    [
        ("", "no comment"),
        ("# The path below which the gateway is.\n\n", "no comment"),
        ("# The prefix of paths.\n", "fewer than 4 words"),
        ("# The path below which the gateway is.\n", ""),
    ],
)
def test_a_leaf_needs_a_comment_that_says_more_than_its_key(comment: str, lack: str) -> None:
    text = f"gateway:\n{comment.replace('#', '  #')}  prefix: /services\n"
    entries = descriptions.problems(text, {})
    assert [entry.partition(": ")[0] for entry in entries] == (["gateway.prefix"] if lack else [])
    assert all(lack in entry for entry in entries)


@pytest.mark.parametrize(
    ("key", "default", "without", "unit"),
    [
        ("timeout", 90, "How long the hub waits for files", "Seconds that the hub waits"),
        ("HighWaterMark", 0.95, "When old files are removed", "Fraction of the volume from which"),
        ("cpu", "20m", "What the scheduler reserves for requests", "CPU cores that are reserved"),
        ("cpu", 1, "What the scheduler reserves for requests", "CPU cores that are reserved"),
        ("memory", "64Mi", "Memory of up to 5 requests", "Memory reserved, in bytes (Mi: MiB)"),
        ("shared_buffers", "64MB", "What the server keeps of tables", "Bytes of tables it keeps"),
        ("RamSize", "1g", "What the cache keeps in memory", "Memory that is used, in GiB"),
    ],
)
def test_a_number_or_quantity_needs_a_unit(key: str, default: Any, without: str, unit: str) -> None:
    assert "no unit" in descriptions.problem(key, default, without, {})
    assert descriptions.problem(key, default, f"{unit} here by default", {}) == ""


def test_an_empty_value_that_the_schema_makes_a_number_needs_a_unit() -> None:
    number = {"type": ["integer", "null"]}
    text = "Where the proxy listens on each node"
    assert "no unit" in descriptions.problem("http", None, text, number)
    assert descriptions.problem("http", None, f"{text}, a port", number) == ""


def test_a_boolean_needs_what_happens_when_it_is_true() -> None:
    assert "true" in descriptions.problem("users", False, "Whether the culler removes them", {})
    assert descriptions.problem("users", False, "True: the culler removes idle ones", {}) == ""


@pytest.mark.parametrize("default", ["", None, [], {}])
def test_a_free_form_needs_an_example(default: Any) -> None:
    text = "Hosts by whose names the server may be called"
    assert "no example" in descriptions.problem("allowed", default, text, {})
    assert descriptions.problem("allowed", default, f"{text}. Example: [a.b]", {}) == ""
    # The schema names the values.
    assert descriptions.problem("allowed", default, text, {"enum": ["", "a"]}) == ""


def test_texts_that_only_look_like_quantities_need_no_unit() -> None:
    text = "Content hash that the command writes here"
    for tag in ("6c6ed69e621a", "12345678901b", "123456789012"):
        assert descriptions.problem("tag", tag, text, {}) == ""


def test_the_reference_has_each_leaf_with_its_description() -> None:
    page = schema.reference()
    for chart in schema.charts():
        text = (chart / "values.yaml").read_text()
        for path, description in descriptions.comments(text).items():
            row = next(line for line in page.splitlines() if line.startswith(f"| `{path}` |"))
            assert row
            assert description.replace("|", "\\|") in page


def test_the_check_names_the_file_and_the_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = checks.CHECKS["descriptions of values"]
    monkeypatch.setattr(schema, "CHARTS", tmp_path)
    values = tmp_path / "mlflow" / "values.yaml"
    values.parent.mkdir()
    values.write_text("# Processes that serve requests.\nworkers: 1\n")
    with pytest.raises(ShoppeError, match=r"charts/mlflow/values\.yaml: workers: no unit"):
        check()
    values.write_text("# Number of processes that serve requests.\nworkers: 1\n")
    check()
