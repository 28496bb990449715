"""What the page about sizes says is what the charts request."""

import re

from rendering import CHARTS, RELEASE, Manifest, template

PAGE = CHARTS.parent / "docs" / "how-to" / "sizing.md"
ROW = re.compile(
    r"^\| (?:`RELEASE(?P<name>-[a-z-]+)`[^|]*|all) \| (?P<cpu>[\d.]+) \| (?P<memory>\d+) "
    r"\| (?P<limit>\d+) \|$",
    re.MULTILINE,
)
UNITS = {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}


def quantity(text: object) -> float:
    match = re.fullmatch(r"([0-9.]+)(\D*)", str(text))
    assert match, text
    return float(match[1]) * UNITS[match[2]]


def sizes(manifest: Manifest) -> tuple[float, float, float]:
    """Return cores and MiB that a pod requests, and the MiB that it may use."""
    resources = [c["resources"] for c in manifest["spec"]["template"]["spec"]["containers"]]
    cores = sum(quantity(entry["requests"]["cpu"]) for entry in resources)
    requests = sum(quantity(entry["requests"]["memory"]) for entry in resources)
    limits = sum(quantity(entry["limits"]["memory"]) for entry in resources)
    return round(cores, 3), requests / 2**20, limits / 2**20


def test_the_page_has_the_sizes_of_all_pods_and_their_sum() -> None:
    rendered = {
        manifest["metadata"]["name"]: sizes(manifest)
        for manifest in template("coffea-shoppe")
        if manifest["kind"] in ("Deployment", "StatefulSet")
    }
    rows = {
        f"{RELEASE}{match['name']}" if match["name"] else "all": (
            float(match["cpu"]),
            float(match["memory"]),
            float(match["limit"]),
        )
        for match in ROW.finditer(PAGE.read_text())
    }
    cores, requests, limits = zip(*rendered.values(), strict=True)
    total = round(sum(cores), 3), sum(requests), sum(limits)
    assert rows == {**rendered, "all": total}
