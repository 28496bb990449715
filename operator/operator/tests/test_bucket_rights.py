"""Rights on a bucket are those of its policy: the operator removes what an ACL adds."""

from typing import Any

import pytest
from coffea_shoppe_operator.adapters.object_store import ObjectStoreSettings
from coffea_shoppe_operator.clients.object_store import ObjectStore

OWNER = {"Grantee": {"ID": "user-ann", "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}
EVERYBODY = {"Grantee": {"ID": "all-users", "Type": "Group"}, "Permission": "READ"}


class Bucket:
    """The calls on a bucket, which changes its ACL only while ACLs are enabled, as versitygw."""

    def __init__(self, grants: list[dict[str, Any]]) -> None:
        self.grants, self.policy, self.ownership = grants, "", "BucketOwnerEnforced"
        self.writes = 0

    def put_bucket_policy(self, *, Bucket: str, Policy: str) -> None:  # noqa: N803
        self.policy = Policy

    def get_bucket_acl(self, *, Bucket: str) -> dict[str, Any]:  # noqa: N803
        return {"Owner": {"ID": "user-ann"}, "Grants": self.grants}

    def put_bucket_acl(self, *, Bucket: str, ACL: str) -> None:  # noqa: N803
        assert (self.ownership, ACL) == ("ObjectWriter", "private")
        self.grants = [OWNER]
        self.writes += 1

    def put_bucket_ownership_controls(
        self,
        *,
        Bucket: str,  # noqa: N803
        OwnershipControls: dict[str, Any],  # noqa: N803
    ) -> None:
        self.ownership = OwnershipControls["Rules"][0]["ObjectOwnership"]
        self.writes += 1


@pytest.mark.parametrize(("grants", "writes"), [([OWNER], 0), ([OWNER, EVERYBODY], 3)])
def test_grants_of_an_acl_are_removed_with_each_policy(
    monkeypatch: pytest.MonkeyPatch, grants: list[dict[str, Any]], writes: int
) -> None:
    settings = ObjectStoreSettings(
        endpoint="http://store", admin_endpoint="http://admin", region="us-east-1"
    )
    store = ObjectStore(settings)
    bucket = Bucket(grants)
    monkeypatch.setattr(store, "_client", lambda: bucket)
    for _ in range(2):
        store.put_bucket_policy("user-ann", "policy")
        assert (bucket.policy, bucket.grants) == ("policy", [OWNER])
        assert bucket.ownership == "BucketOwnerEnforced"
        assert bucket.writes == writes, "what is as it should be is not written again"
