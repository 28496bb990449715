from rendering import ALONE, CHARTS


def test_every_component_is_covered() -> None:
    folders = {path.parent.name for path in CHARTS.glob("*/values.yaml")}
    assert folders == {*ALONE, "coffea-shoppe"}
