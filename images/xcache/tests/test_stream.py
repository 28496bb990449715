import json

from xcache_exporter.stream import Closed, Ledger, parse, sent

HEADER = '{"code":"g","pseq":1,"stod":1,"sid":2,"gs":{"type":"C","tbeg":1,"tend":2}}'


def line(**changes: object) -> str:
    event = {
        "event": "file_close",
        "lfn": "/store/a.root",
        "size": 3_030_882,
        "blk_size": 262_144,
        "n_blks": 12,
        "n_blks_done": 12,
        "access_cnt": 1,
        "remotes": ["origin:1095"],
        "b_hit": 2_244_450,
        "b_miss": 786_432,
        "b_bypass": 0,
    }
    return json.dumps({**event, **changes})


def ledger(*lines: str) -> Ledger:
    found = Ledger()
    for event in parse("\n".join([HEADER, *lines]).encode() + b"\0"):
        found.add(event)
    return found


def test_a_packet_is_a_header_and_events() -> None:
    (event,) = parse(f"{HEADER}\n{line()}".encode())
    assert event == Closed("/store/a.root", ("origin:1095",), 3_030_882, 262_144, 12, 0)


def test_a_cut_packet_keeps_its_whole_lines() -> None:
    assert len(list(parse(f"{HEADER}\n{line()}\n{line()[:50]}".encode()))) == 1


def test_an_event_without_its_fields_is_skipped() -> None:
    assert list(parse(b'{"event": "file_close", "lfn": "/x"}')) == []


def test_the_first_read_comes_from_the_origin_whole() -> None:
    found = ledger(line())
    assert (found.fetched, found.from_cache_alone) == (3_030_882, 0)


def test_the_second_read_costs_the_origin_nothing() -> None:
    found = ledger(line(), line(remotes=[], access_cnt=2))
    assert (found.fetched, found.from_cache_alone) == (3_030_882, 1)


def test_a_further_part_adds_just_its_blocks() -> None:
    found = ledger(line(n_blks_done=4), line(n_blks_done=7))
    assert found.fetched == 7 * 262_144


def test_a_purged_file_is_fetched_anew() -> None:
    found = ledger(line(n_blks_done=7), line(n_blks_done=5))
    assert found.fetched == 12 * 262_144


def test_bytes_passed_through_come_from_the_origin() -> None:
    found = ledger(line(n_blks_done=0, b_hit=0, b_miss=0, b_bypass=1000))
    assert found.fetched == 1000


def test_the_summary_tells_the_bytes_sent_on_all_links() -> None:
    report = (
        '<statistics tod="1" pgm="xrootd"><stats id="buff"><out>9</out></stats>'
        '<stats id="link"><num>0</num><tot>4</tot><in>983</in><out>12137487</out></stats>'
    )
    assert sent(report.encode()) == 12_137_487
    assert sent(f"{HEADER}\n{line()}".encode()) is None


def test_an_event_tells_what_it_cost_the_origin() -> None:
    counted = Ledger()
    (first, again, part) = parse(
        "\n".join([HEADER, line(), line(remotes=[]), line(lfn="/b", n_blks_done=2)]).encode()
    )
    assert [counted.add(event) for event in (first, again, part)] == [3_030_882, 0, 2 * 262_144]
