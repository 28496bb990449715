from typing import Any

import pytest


def config(render: Any, **instance: Any) -> list[str]:
    values = {"instances": [{"name": "c", **instance}]}
    manifests = render("xcache", values)
    data = next(m for m in manifests if m["kind"] == "ConfigMap")["data"]
    return [str(line) for line in data["xcache.cfg"].splitlines()]


def test_the_atlas_preset_forwards(render: Any) -> None:
    lines = config(render, preset="atlas")
    assert "pss.origin =" in lines
    assert "all.export /root:/ readonly" in lines
    assert "all.export / readonly" not in lines


@pytest.mark.parametrize(
    ("preset", "origin", "block"),
    [("cms", "cmsxrootd.fnal.gov:1094", "1m"), ("opendata", "eospublic.cern.ch:1094", "512k")],
)
def test_fixed_presets_know_their_origin(render: Any, preset: str, origin: str, block: str) -> None:
    lines = config(render, preset=preset)
    assert f"pss.origin =root {origin}" in lines
    assert f"pfc.blocksize {block}" in lines


def test_a_fixed_cache_forwards_nowhere_else(render: Any) -> None:
    lines = config(render, preset="generic", origin="mine.example:1094")
    permitted = [line for line in lines if line.startswith("pss.permit")]
    assert permitted == ["pss.permit 127.0.0.1", "pss.permit mine.example"]


def test_an_instances_settings_win_over_the_common_ones(render: Any) -> None:
    lines = config(render, preset="cms", XCacheConfig={"BlockSize": "2m", "Prefetch": 4})
    assert {"pfc.blocksize 2m", "pfc.prefetch 4", "pfc.ram 1g"} <= set(lines)


def test_the_size_of_all_files_has_three_limits(render: Any) -> None:
    lines = config(render, preset="atlas", XCacheConfig={"FileUsage": "5g 7g 8g"})
    assert "pfc.diskusage 0.9 0.95 files 5g 7g 8g" in lines


def test_files_are_told_apart_by_origin_and_content(render: Any) -> None:
    # +: the plugin gets the parameters of the URL, one of which names the content.
    expected = "pss.namelib -lfncachesrc+ /usr/local/lib/libOriginName.so"
    assert expected in config(render, preset="atlas")


def test_several_caches_stand_side_by_side(render: Any) -> None:
    instances = [{"name": "any", "preset": "atlas"}, {"name": "cms", "preset": "cms"}]
    manifests = render("xcache", {"instances": instances})
    names = [m["metadata"]["name"] for m in manifests if m["kind"] == "StatefulSet"]
    assert names == ["shoppe-any", "shoppe-cms"]
