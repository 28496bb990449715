"""The HS3 document: another library, pyhs3, reads it and finds the likelihood that pyhf has."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import cabinetry
import numpy as np
import pyhf
import pytest
from agc import hs3, statistics
from agc.validate import read_reference

# The library brings a compiler of its own for expressions, which nothing else here needs: a lock
# beside the script names its dependencies.
EVALUATE = Path(__file__).with_name("evaluate_hs3.py")


@pytest.fixture(scope="module")
def full_workspace(reference_data: Path) -> dict[str, Any]:
    reference = read_reference(reference_data / "agc" / "histos_10.json")
    return statistics.workspace(statistics.from_reference(reference))


@pytest.fixture(scope="module")
def fitted(full_workspace: dict[str, Any]) -> statistics.Fit:
    return statistics.fit(full_workspace)


def points(document: dict[str, Any]) -> list[dict[str, float]]:
    """Return the document's two points, and one where every parameter is off."""
    known = [
        {one["name"]: one["value"] for one in point["parameters"]}
        for point in document["parameter_points"]
    ]
    # Not far: pyhs3 multiplies probabilities, which soon are too small for a number.
    off = {
        name: value * 1.002 + 0.05 * (not name.startswith("staterror"))
        for name, value in known[1].items()
    }
    return [*known, off]


def by_pyhs3(folder: Path, document: dict[str, Any], some: list[dict[str, float]]) -> Any:
    (folder / "hs3.json").write_text(json.dumps(document))
    (folder / "points.json").write_text(json.dumps(some))
    uv = os.environ.get("SHOPPE_UV", "uv")
    words = [uv, "run", "--quiet", "--locked", "--script", str(EVALUATE)]
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    done = subprocess.run(
        [*words, "hs3.json", "points.json"],
        cwd=folder,
        # Compiling takes longer than evaluating a few points plainly.
        env={**environment, "PYTENSOR_FLAGS": "linker=py,optimizer=None"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.reference
def test_another_library_finds_the_same_likelihood(
    full_workspace: dict[str, Any], fitted: statistics.Fit, tmp_path: Path
) -> None:
    document = statistics.as_hs3(fitted, full_workspace)
    some = points(document)
    model, data = cabinetry.model_utils.model_and_data(full_workspace)
    labels = model.config.par_names
    shared = [label for label in labels if "staterror" not in label and label != statistics.POI]
    assert (len(labels), len(shared)) == (34, 11)
    for point, found in zip(some, by_pyhs3(tmp_path, document, some), strict=True):
        values = np.array([point[hs3.named(label)] for label in labels])
        main, auxiliary = model.fullpdf_tv.split(pyhf.tensorlib.astensor(data))
        poisson, constraint = np.sum(list(found.values()), axis=0)
        assert poisson == pytest.approx(float(model.mainlogpdf(main, values)), abs=1e-6)
        # Those parameters are constrained in both channels, and count once.
        twice = sum(-(point[hs3.named(label)] ** 2) / 2 - np.log(2 * np.pi) / 2 for label in shared)
        expected = float(model.constraint_logpdf(auxiliary, values))
        assert constraint - twice == pytest.approx(expected, abs=1e-6)


@pytest.mark.reference
def test_the_document_says_what_was_fitted(
    full_workspace: dict[str, Any], fitted: statistics.Fit
) -> None:
    document = statistics.as_hs3(fitted, full_workspace)
    (analysis,) = document["analyses"]
    assert analysis["parameters_of_interest"] == [statistics.POI]
    nominal, best, _ = points(document)
    assert nominal[statistics.POI] == 1
    assert best[statistics.POI] == fitted.norm[0]
    (bounds,) = [a for a in document["domains"][0]["axes"] if a["name"] == statistics.POI]
    assert (bounds["min"], bounds["max"]) == statistics.POI_BOUNDS


@pytest.mark.reference
def test_what_it_cannot_say_is_refused(
    full_workspace: dict[str, Any], fitted: statistics.Fit
) -> None:
    odd = json.loads(json.dumps(full_workspace))
    odd["channels"][0]["samples"][0]["modifiers"][0]["type"] = "shapefactor"
    with pytest.raises(ValueError, match="modifier 'shapefactor' is not known"):
        statistics.as_hs3(fitted, odd)
    with pytest.raises(ValueError, match="different parameters: Luminosity"):
        axes = {name: hs3.axis("x", [0, 1]) for name in ("4j1b CR", "4j2b SR")}
        best = dict.fromkeys(fitted.results.labels, 0.0)
        del best["Luminosity"]
        hs3.document(full_workspace, axes, fitted=best)
