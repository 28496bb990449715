"""The stock client, as PyPI has it, against the whole service."""

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from servicex import dataset, query

from conftest import Deliver


def paths(inputs: list[Path]) -> Any:
    return dataset.FileList([str(path) for path in inputs])


def test_expressions_with_a_cut_come_as_parquet(deliver: Deliver, inputs: list[Path]) -> None:
    asked = query.UprootRaw(
        {"treename": "Events", "expressions": ["event", "Jet_pt", "sum(Jet_pt)"], "cut": "nJet > 2"}
    )
    files = deliver(paths(inputs), asked)
    assert len(files) == 3
    found = ak.concatenate([ak.from_parquet(path) for path in sorted(files)])
    assert found.event.tolist() == [n for n in range(3000) if n % 4 == 3]
    assert ak.all(found["sum(Jet_pt)"] == 3 * found.event + 3)
    assert str(found.Jet_pt.type) == "750 * var * float64"


def test_root_keeps_the_shape_of_nanoaod(deliver: Deliver, inputs: list[Path]) -> None:
    asked = query.UprootRaw({"treename": "Events", "filter_name": ["event", "nJet", "Jet_*"]})
    files = deliver(paths(inputs[:1]), asked, general={"OutputFormat": "root-ttree"})
    tree, original = (uproot.open(path)["Events"] for path in (files[0], inputs[0]))
    assert sorted(tree.keys()) == ["Jet_eta", "Jet_pt", "event", "nJet"]
    assert ak.all(tree["Jet_pt"].array() == original["Jet_pt"].array())


@pytest.mark.parametrize("form", ["root-ttree", "root-rntuple", "parquet"])
def test_funcadl_selects_jets(deliver: Deliver, inputs: list[Path], form: str) -> None:
    asked = (
        query.FuncADL_Uproot()
        .FromTree("Events")
        .Where(lambda e: e.met > 100)
        .Select(
            lambda e: {
                "pt": e.Jet_pt.Where(lambda j: j > 120),
                "n": e.Jet_pt.Count(),
                "twice": e.met * 2,
            }
        )
    )
    files = deliver(paths(inputs[:1]), asked, general={"OutputFormat": form})
    found = (
        ak.from_parquet(files[0]) if form == "parquet" else uproot.open(files[0])["Events"].arrays()
    )
    assert len(found) == 899
    assert found.n.tolist() == [n % 4 for n in range(101, 1000)]
    assert found.pt.tolist() == [
        [float(n + i) for i in range(n % 4) if n + i > 120] for n in range(101, 1000)
    ]
    assert ak.all(found.twice == 2 * np.arange(101, 1000))


def test_a_function_of_the_user_s_own(deliver: Deliver, inputs: list[Path]) -> None:
    def run_query(input_filenames: str) -> Any:
        import uproot

        with uproot.open(input_filenames) as file:
            return file["Events"].arrays(["met"], "met < 10")

    files = deliver(paths(inputs[:1]), query.PythonFunction(run_query))
    assert ak.from_parquet(files[0]).met.tolist() == list(range(10))
