"""What the documentation shows as YAML is accepted: values by the charts, objects by the API."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendering import (
    CHARTS,
    NAMESPACE,
    RELEASE,
    Manifest,
    check,
    merged,
    pod_specs,
    template,
)

DOCS = CHARTS.parent / "docs"
BLOCK = re.compile(r"^```yaml\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = sorted((CHARTS / "coffea-shoppe" / "examples").iterdir())
WITHOUT_SCHEMA = {"monitoring.coreos.com/v1"}
"""Kinds of the Prometheus operator, which no chart writes."""


def blocks() -> Iterator[Any]:
    """Yield the text of each block, with its page and line as id."""
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield pytest.param(match["text"], id=f"{page.relative_to(DOCS)}:{line}")


def documents(text: str) -> list[Manifest]:
    """Return what a block has, of the release and namespace of these tests."""
    text = text.replace("coffea-shoppe:shoppe:shoppe", f"coffea-shoppe:{NAMESPACE}:{RELEASE}")
    return [document for document in yaml.safe_load_all(text) if document]


def test_pages_for_administrators_have_blocks() -> None:
    pages = {Path(block.id or "").name.partition(":")[0] for block in blocks()}
    assert {"install.md", "placement.md", "volumes.md", "gitops.md", "clusters.md"} <= pages


@pytest.mark.parametrize("text", list(blocks()))
def test_a_block_is_accepted(text: str) -> None:
    for document in documents(text):
        if "apiVersion" not in document:
            assert template("coffea-shoppe", document)
        elif document["apiVersion"] not in WITHOUT_SCHEMA:
            check([document])


@pytest.mark.parametrize("file", EXAMPLES, ids=[file.stem for file in EXAMPLES])
def test_ready_values_are_accepted_and_say_what_to_change(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("# ")
    (values,) = documents(text)
    manifests = template("coffea-shoppe", values)
    assert len(pods(manifests)) > 1
    assert f"`{file.name}`" in (DOCS / "how-to" / "install.md").read_text()


def test_experiments_values_fit_a_production_facility() -> None:
    files = {file.stem: yaml.safe_load(file.read_text()) for file in EXAMPLES}
    for experiment in ("atlas", "cms"):
        values = merged(files["production"], files[experiment])
        assert {"shoppe-xcache", "shoppe-opendata"} <= pods(template("coffea-shoppe", values))


def pods(manifests: list[Manifest]) -> set[str]:
    return {name for name, _, _ in pod_specs(manifests)}
