import re

import pytest
from coffea_shoppe_contract import identity

NOW = 1_000_000.0
GOOD = identity.claims(
    issuer="here", audience="servicex", user="ann", uid="u1", groups=("cms",), now=NOW
)


def identify(**changes: object) -> identity.Identity:
    said = {**GOOD, **{k: v for k, v in changes.items() if k not in ("now", "revoked")}}
    said = {key: value for key, value in said.items() if value is not None}
    return identity.identify(
        said,
        issuer="here",
        audience="servicex",
        now=float(changes.get("now", NOW)),  # type: ignore[arg-type]
        revoked=changes.get("revoked", {}),  # type: ignore[arg-type]
    )


def test_a_good_token_tells_who_it_is() -> None:
    found = identify(revoked={"u2": NOW, "u1": NOW - 1})
    assert (found.user, found.uid, found.groups) == ("ann", "u1", ("cms",))
    assert found.expires == NOW + identity.LIFETIME_S


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"iss": "elsewhere"}, "'elsewhere', not of this facility"),
        ({"aud": "mlflow"}, "for 'mlflow', not for 'servicex'"),
        ({"now": NOW + 2 * identity.LIFETIME_S}, "expired"),
        ({"now": NOW - 60}, "clocks differ"),
        ({"exp": NOW + 10 * identity.LIFETIME_S}, "lives longer"),
        ({"revoked": {"u1": NOW}}, "revoked"),
        ({"uid": None}, "lacks 'uid'"),
        ({"exp": "soon"}, "lacks"),
    ],
)
def test_any_other_token_is_refused_with_the_reason(changes: dict[str, object], told: str) -> None:
    with pytest.raises(identity.RefusedError, match=told):
        identify(**changes)


def test_only_a_refresh_token_may_live_for_long() -> None:
    said = identity.claims(
        issuer="here", audience="servicex-refresh", user="ann", uid="u1", groups=(), now=NOW
    )
    late = NOW + 20 * 3600
    good = {"issuer": "here", "audience": "servicex-refresh", "now": late, "revoked": {}}
    assert identity.identify(said, **good).user == "ann"
    with pytest.raises(identity.RefusedError, match="not for 'servicex'"):
        identity.identify(said, **{**good, "audience": "servicex"})
    with pytest.raises(identity.RefusedError, match="lives longer"):
        identity.identify({**said, "aud": "servicex"}, **{**good, "audience": "servicex"})


@pytest.mark.parametrize("user", ["ann", "Ann", "ann@cern.ch", "ann.b", "ann-b", "é", "a" * 99])
def test_a_users_resource_has_a_dns_label_for_a_name(user: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", identity.resource_name(user))
    assert len(identity.secret_name(user)) <= 63


def test_no_two_users_share_a_resource() -> None:
    users = ["ann", "Ann", "ann.b", "ann-b", "ann_b", "-ann", "ann-", "a" * 50, "a" * 51]
    # Not even one who calls himself as another one's resource is called.
    users += [
        identity.resource_name(user) for user in users if identity.resource_name(user) != user
    ]
    names = {identity.resource_name(user) for user in set(users)}
    assert len(names) == len(set(users))
