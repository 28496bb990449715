import pytest
from shoppe_ci.errors import ShoppeError
from shoppe_ci.progress import elapsed
from shoppe_ci.wait import eventually


def test_it_returns_what_the_probe_finds_at_last() -> None:
    values = iter([0, None, "", 7])
    assert eventually(lambda: next(values), "it is there", every=0) == 7


def test_it_gives_up_and_says_what_it_waited_for() -> None:
    def probe() -> bool:
        raise OSError("refused")

    message = r"timeout after .* s: waited until it is there\nOSError: refused"
    with pytest.raises(ShoppeError, match=message):
        eventually(probe, "it is there", timeout=0.01, every=0)


def test_a_final_error_ends_the_wait() -> None:
    calls = []

    def probe() -> bool:
        calls.append(1)
        raise ShoppeError("broken for good")

    with pytest.raises(ShoppeError, match="broken for good"):
        eventually(probe, "it is there", timeout=10, every=0)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (125, "2 min 05 s")]
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text
