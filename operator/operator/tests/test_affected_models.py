"""Served models whose scores were never compared are named, with their owners."""

import sys
from typing import Any

import pytest
from coffea_shoppe_contract.resources import SERVED_MODELS
from coffea_shoppe_operator import affected


def model(name: str, **status: Any) -> dict[str, Any]:
    spec = {"username": "ann", "name": name, "model": f"models:/{name}@champion"}
    return {"metadata": {"name": f"ann-{name}"}, "spec": spec, "status": status}


MODELS = [
    model("old", version="3", registered="top"),
    model("new", version="4", registered="top", method="predict_proba"),
    model("failed"),
]


class Resources:
    def list_resources(self, namespace: str, plural: str) -> list[dict[str, Any]]:
        assert (namespace, plural) == ("shoppe", SERVED_MODELS)
        return MODELS


def test_models_of_earlier_releases_are_affected() -> None:
    assert [each.name for each in affected.affected(Resources(), "shoppe")] == ["ann-old"]


def test_the_command_names_owner_and_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(affected, "Storage", Resources)
    monkeypatch.setattr(sys, "argv", ["affected", "--namespace", "shoppe"])
    affected.main()
    first, count = capsys.readouterr().out.splitlines()
    assert first.startswith("ann-old  ann  top version 3  served by an earlier release")
    assert count == "1 served models that may give wrong scores"
