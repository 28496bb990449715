"""What the gateway tells of pods that Kubernetes does not run."""

import json
from typing import Any

import pytest
from rendering import load_file

refusals = load_file("dask-gateway", "refusals")


def pod(**waiting: str) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"state": {"waiting": waiting}}]}}


def test_the_api_servers_words_come_through_in_one_line() -> None:
    body = json.dumps({"message": "pods is forbidden:\n  exceeded quota"})
    assert refusals.answer(body) == "pods is forbidden: exceeded quota"


@pytest.mark.parametrize(
    ("body", "words"), [(None, "no reason"), ("<html>", "<html>"), ("[]", "[]")]
)
def test_an_answer_that_is_no_status_is_no_error(body: str | None, words: str) -> None:
    assert words in refusals.answer(body)


def test_an_image_that_cannot_be_pulled_is_named() -> None:
    found = refusals.stuck(pod(reason="ImagePullBackOff", message="Back-off pulling image x"))
    assert found == "ImagePullBackOff: Back-off pulling image x"


def test_a_pod_on_its_way_is_not_stuck() -> None:
    assert refusals.stuck(pod(reason="ContainerCreating")) == ""
    assert refusals.stuck({"status": {}}) == ""
    assert refusals.stuck({"status": {"containerStatuses": [{"state": {"running": {}}}]}}) == ""
