"""Users as the operator administers them."""

from pathlib import Path

import pytest
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.errors import (
    NotFoundError,
)
from coffea_shoppe_servicex.models import LATE_UPLOAD_S, Quota
from servicex_helpers import ANN, BOB, Clock, changed, finish, look_up, submit, take


def test_a_user_s_own_quota_comes_before_the_usual_one(backend: Backend, clock: Clock) -> None:
    limits = backend.context.settings.limits.model_copy(update={"bytes_per_user": 25})
    small = changed(backend, limits=limits)
    small.users.set_quota(ANN.user, Quota(gigabytes=0))
    small.users.set_quota(BOB.user, Quota(gigabytes=15e-9))
    for owner in (ANN, BOB):
        for number in range(3):
            submit(small, owner, title=f"t{number}")
            finish(small, take(small))
            clock.now += 1
    assert small.housekeeping.remove_expired() == 2
    assert [len(small.requests.owned_by(owner)) for owner in (ANN, BOB)] == [3, 1]
    small.users.set_quota(ANN.user, Quota(gigabytes=25e-9))
    assert small.housekeeping.remove_expired() == 1


def test_a_user_of_twice_the_share_gets_twice_the_files(backend: Backend) -> None:
    backend.users.set_quota(BOB.user, Quota(share=2))
    mine, theirs = submit(backend, ANN, files=9), submit(backend, BOB, files=9)
    order = [take(backend).request for _ in range(9)]
    assert (order.count(mine), order.count(theirs)) == (3, 6)


def test_a_user_who_is_forgotten_leaves_nothing(backend: Backend, clock: Clock) -> None:
    done, running, other = submit(backend), submit(backend, title="b"), submit(backend, BOB)
    finish(backend, take(backend))
    backend.users.set_quota(ANN.user, Quota(gigabytes=1))
    backend.users.remove(ANN.user)
    assert backend.requests.owned_by(ANN) == []
    for request in (done, running):
        with pytest.raises(NotFoundError):
            backend.requests.get(ANN, request)
    assert [one.id for one in backend.requests.owned_by(BOB)] == [other]
    assert take(backend).request == other
    assert backend.queue.lease("w", memory=4000) is None, "of the forgotten user's nothing runs"
    backend.users.remove(ANN.user)
    clock.now += LATE_UPLOAD_S + 1
    backend.housekeeping.remove_expired()
    assert not list((backend.context.settings.objects.folder or Path()).rglob(f"*{done}*"))


def test_a_removed_user_s_datasets_go_and_no_other_s(backend: Backend) -> None:
    did = "xrootd://root://origin//*.root"
    for owner in (ANN, BOB):
        submit(backend, owner, file_list=None, did=did)
        look_up(backend, ["root://origin//a.root"])
    backend.requests.delete(ANN, backend.requests.owned_by(ANN)[0].id)
    backend.users.remove(ANN.user)
    assert backend.datasets.owned_by(ANN, deleted=True) == []
    assert len(backend.datasets.owned_by(BOB)) == 1


def test_what_a_revoked_user_had_under_way_ends(backend: Backend, clock: Clock) -> None:
    mine, theirs = submit(backend, ANN), submit(backend, BOB)
    key = backend.requests.get(ANN, mine).access_key
    assert backend.requests.by_access_key(key)
    assert backend.users.revoke_access({ANN.uid: clock.now - 1}) == 0, "let in again since"
    assert backend.users.revoke_access({ANN.uid: clock.now}) == 1
    assert backend.requests.get(BOB, theirs).status == "Running"
    void = backend.requests.by_access_key(key)
    assert void is None, "the keys stay void when the revocation is forgotten"
    assert backend.requests.by_access_key("") is None
    back = backend.requests.get(ANN, mine)
    assert back.status == "Canceled"
    assert back.access_key not in ("", key), "a user who is let in again gets others"
    assert backend.requests.by_access_key(back.access_key)
