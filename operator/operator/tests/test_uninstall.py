"""Before a release is uninstalled its users are deleted, or what holds them is named."""

from typing import Any

import pytest
from coffea_shoppe_contract.resources import FACILITY_USERS, SERVED_MODELS
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.uninstall import remove_all


class Resources:
    """Resources in a namespace; those in `stuck` never go."""

    def __init__(self, *stuck: str) -> None:
        self.names = {FACILITY_USERS: ["ann", "bob"], SERVED_MODELS: ["ann-jets"]}
        self.stuck, self.deleting, self.now = stuck, list[str](), 0.0

    def list_resources(self, namespace: str, plural: str) -> list[dict[str, Any]]:
        assert namespace == "shoppe"
        conditions = [{"type": "Ready", "status": "False", "message": "the store is down"}]
        return [
            {
                "metadata": {"name": name}
                | ({"deletionTimestamp": "now"} if name in self.deleting else {}),
                "status": {"conditions": conditions},
            }
            for name in self.names[plural]
        ]

    def delete_resource(self, namespace: str, plural: str, name: str) -> bool:
        assert name not in self.deleting
        self.deleting.append(name)
        return True

    def sleep(self, seconds: float) -> None:
        """Let time pass; the operator removes what is being deleted."""
        self.now += seconds
        gone = set(self.deleting) - set(self.stuck)
        self.names = {
            kind: [n for n in names if n not in gone] for kind, names in self.names.items()
        }

    def remove_all(self) -> None:
        remove_all(self, "shoppe", timeout=10, clock=lambda: self.now, sleep=self.sleep)


def test_models_and_users_are_deleted() -> None:
    cluster = Resources()
    cluster.remove_all()
    assert cluster.names == {FACILITY_USERS: [], SERVED_MODELS: []}
    assert cluster.deleting == ["ann-jets", "ann", "bob"]


def test_a_user_who_cannot_be_removed_stops_the_uninstallation() -> None:
    cluster = Resources("bob")
    with pytest.raises(StorageError) as refused:
        cluster.remove_all()
    text = str(refused.value)
    assert "1 facilityusers remain after 10 s: bob (the store is down)" in text
    assert "`helm uninstall` again" in text
    assert cluster.names[FACILITY_USERS] == ["bob"]
