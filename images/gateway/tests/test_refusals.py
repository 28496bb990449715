"""The reasons of pods that Kubernetes does not run."""

import json
from typing import Any

import pytest
from coffea_shoppe_gateway.refusals import message_of, stuck


def pod(**waiting: str) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"state": {"waiting": waiting}}]}}


@pytest.mark.parametrize("encode", [str, str.encode])
def test_the_api_servers_words_come_through_in_one_line(encode: Any) -> None:
    body = encode(json.dumps({"message": "pods is forbidden:\n  exceeded quota"}))
    assert message_of(body) == "pods is forbidden: exceeded quota"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (None, "no reason"),
        ("", "no reason"),
        ("<html>", "<html>"),
        (b"<html>", "<html>"),
        ("[]", "[]"),
    ],
)
def test_a_response_that_is_no_kubernetes_status_has_a_message(
    body: str | bytes | None, words: str
) -> None:
    assert words in message_of(body)


def test_an_image_that_cannot_be_pulled_is_named() -> None:
    waiting = pod(reason="ImagePullBackOff", message="Back-off pulling image x")
    assert stuck(waiting) == "ImagePullBackOff: Back-off pulling image x"


def test_a_pod_on_its_way_is_not_stuck() -> None:
    assert stuck(pod(reason="ContainerCreating")) == ""
    assert stuck({"status": {}}) == ""
    assert stuck({"status": {"containerStatuses": [{"state": {"running": {}}}]}}) == ""
