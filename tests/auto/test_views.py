"""What people look at: every number is the journal's, every file comes back, and no text breaks any of them."""

from __future__ import annotations

import html
import json
import re
import sys
import types
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from skill.auto import checkpoint, drawing, narrate, overview, page, pictures, png, store, tables, views
from skill.auto.campaign import Ask, Campaign, Node
from skill.auto.config import Limits
from skill.auto.layout import WorkDir
from skill.auto.narrate import Part
from skill.common.errors import FailedError
from skill.operations import auto_report, auto_run, auto_status
from tests.auto.killed_loop import begin, work_until_killed
from tests.auto.simulated import config
from tests.auto.test_context import measured
from tests.auto.test_crash import SMALL
from tests.browser import BROWSERS, answers_of

GROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "a <script>alert(1)</script> | b\tc\nd & \x1b[31m `e` $x$ ~~f~~ [g](http://h)"


def many() -> Campaign:
    """A campaign with a node of each colour."""
    campaign = measured(12)
    nodes = campaign.nodes
    nodes["n009"].verdict, nodes["n009"].value, nodes["n009"].sd = "failed", None, None
    nodes["n010"].verdict = nodes["n011"].verdict = None
    nodes["n011"].jobs = {}
    nodes["n012"].kind = "control"
    nodes["n012"].verdict = "control"
    campaign.judged = [name for name in campaign.judged if nodes[name].verdict is not None]
    return campaign


def diff(base: str, commit: str) -> str:
    return f"from {base} to {commit}"


def read(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file() and path.name not in ("journal.jsonl", "loop.lock"))
    return {path.relative_to(root).as_posix(): path.read_text() for path in files}


def test_the_table_has_the_numbers_of_the_journal() -> None:
    campaign = many()
    head, *rows = [line.split("\t") for line in tables.master(campaign).splitlines()]
    found = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["node"] for row in found] == list(campaign.nodes)
    for row in found:
        node = campaign.nodes[row["node"]]
        for name in ("value", "sd", "effect", "bar"):
            assert (float(row[name]) if row[name] else None) == getattr(node, name)
        assert row["verdict"] == (node.verdict or node.status)
        assert json.loads(row["settings"]) == node.settings


def test_views_that_are_deleted_come_back(tmp_path: Path) -> None:
    campaign = many()
    node = campaign.nodes["n003"]
    node.files, node.analysis = ("train.py",), "It helped."
    work = WorkDir(tmp_path)
    views.Views(work, diff).write(campaign)
    before = read(tmp_path)
    assert {
        "config.json", "state.json", "master_table.tsv", "summary.md", "report.html", "progress.svg",
        "hypothesis_tree.svg", "engine/checkpoint.json", "engine/engine_state.json", "engine/tree.json",
        "engine/queue.json", "engine/active.json", "nodes/n003/spec.json", "nodes/n003/status.txt",
        "nodes/n003/result.json", "nodes/n003/change.patch", "runs/n003/analysis.md", "runs/n003/metrics/n003_s1.json",
    } <= before.keys()  # fmt: skip
    assert before["nodes/n003/change.patch"] == diff(node.base, node.commit or "") + "\n"
    for name in before:
        (tmp_path / name).unlink()
    same = views.Views(work, diff)
    same.write(campaign)
    assert read(tmp_path) == before
    for name in before:
        (tmp_path / name).unlink()
    same.write(campaign)
    assert read(tmp_path) == before, "also those that this loop has written before"


def test_a_view_that_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    campaign = many()
    written = views.Views(WorkDir(tmp_path), diff)
    written.write(campaign)
    inodes = {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}
    written.write(campaign)
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()} == inodes
    campaign.notes.append((1.0, "a note"))
    written.write(campaign)
    changed = [path.name for path, inode in inodes.items() if path.stat().st_ino != inode]
    assert changed == ["state.json"]


def test_the_views_of_a_resumed_campaign_are_those_of_one_that_nothing_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table and the pictures; the times in the summary are those of the journal."""
    monkeypatch.setattr("skill.auto.journal.os.fdatasync", lambda _fd: None)
    whole, often = begin(tmp_path / "whole", SMALL), begin(tmp_path / "often", SMALL)
    assert work_until_killed(whole) is not None
    campaign = None
    while campaign is None:
        often.die_at = len(often.deeds) + 25
        campaign = work_until_killed(often)
    one, other = (store.load(WorkDir(world.root))[0] for world in (whole, often))
    for view in (
        tables.master, lambda seen: drawing.svg(pictures.progress(seen)),
        lambda seen: drawing.svg(pictures.hypothesis_tree(seen)),
    ):  # fmt: skip
        assert view(one) == view(other)
    spent = tables.summary(one).index("## The way to the best")
    assert tables.summary(one)[spent:] == tables.summary(other)[tables.summary(other).index("## The way") :]


def test_a_repository_that_is_gone_costs_the_patch_alone(tmp_path: Path) -> None:
    def gone(_base: str, _commit: str) -> str:
        raise FailedError("gone")

    campaign = many()
    campaign.nodes["n003"].files = ("train.py",)
    views.Views(WorkDir(tmp_path), gone).write(campaign)
    assert not (tmp_path / "nodes/n003/change.patch").exists()
    assert (tmp_path / "report.html").exists()


# -- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", [pictures.progress, pictures.hypothesis_tree])
def test_a_picture_shows_each_node_with_its_value_and_colour(picture: Any) -> None:
    campaign = many()
    root = ElementTree.fromstring(drawing.svg(picture(campaign)))
    shown = {
        title.text.split()[0]: (shape.get("fill"), title.text)
        for shape in root.iter()
        for title in shape.findall(f"{SVG}title")
        if title.text
    }
    expected = {
        name: node
        for name, node in campaign.nodes.items()
        if picture is pictures.hypothesis_tree or (node.verdict is not None and node.kind != "control")
    }
    assert shown.keys() == expected.keys()
    for name, node in expected.items():
        fill, title = shown[name]
        assert fill == pictures.colour(node)
        if node.value is not None:
            assert f"{node.value:.6g}" in title
    colours = {name: pictures.colour(node) for name, node in campaign.nodes.items()}
    assert colours["n007"] == colours["n000"] == pictures.GREEN
    assert colours["n008"] == pictures.GREY
    assert (colours["n009"], colours["n010"], colours["n011"]) == (pictures.RED, pictures.BLUE, pictures.WHITE)


def test_error_bars_are_as_long_as_the_spread() -> None:
    campaign = many()
    shapes = pictures.progress(campaign).shapes
    dots = {one.title.split()[0]: one for one in shapes if isinstance(one, drawing.Dot) and one.title}
    bars = [one.points for one in shapes if isinstance(one, drawing.Line) and len(one.points) == 2]
    values = [
        (campaign.nodes[name].value, dot.y) for name, dot in dots.items() if campaign.nodes[name].value is not None
    ]
    (v1, y1), (v2, y2) = values[0], values[-1]
    assert v1 is not None
    assert v2 is not None
    scale = (y1 - y2) / (v2 - v1)
    for name in ("n000", "n007"):
        node, dot = campaign.nodes[name], dots[name]
        bar = next(points for points in bars if points[0][0] == points[1][0] == dot.x)
        assert node.sd is not None
        assert abs(bar[0][1] - bar[1][1]) == pytest.approx(2 * node.sd * scale)


def test_the_best_path_leads_from_the_baseline_to_the_best() -> None:
    campaign = many()
    path = pictures.best_path(campaign)
    assert (path[0].id, path[-1]) == ("n000", campaign.best)
    assert [node.parent for node in path[1:]] == [node.id for node in path[:-1]]


def test_a_value_far_out_does_not_flatten_the_others() -> None:
    campaign = many()
    campaign.nodes["n008"].value = -1e9
    shapes = pictures.progress(campaign).shapes
    dots = {one.title.split()[0]: one.y for one in shapes if isinstance(one, drawing.Dot) and one.title}
    assert dots["n000"] - dots["n007"] > 100
    assert dots["n008"] >= dots["n000"]


def test_a_campaign_that_has_only_begun_has_all_views(tmp_path: Path) -> None:
    campaign = Campaign(config(), 0.0)
    views.Views(WorkDir(tmp_path), diff).write(campaign)
    assert "nothing was measured yet" in (tmp_path / "progress.svg").read_text()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
     (-7, 1, [-6, -4, -2, 0]), (0.01, 0.0104, [0.01, 0.0101, 0.0102, 0.0103, 0.0104])],
)  # fmt: skip
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert pictures.ticks(low, high) == pytest.approx(expected)


def test_png_draws_the_same_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in that counts what it is asked to draw; the real library is an extra."""
    drawn: list[str] = []

    class Axes:
        def __getattr__(self, name: str) -> Any:
            return lambda *_args, **_options: drawn.append(name)

    class Figure:
        def __init__(self, **_options: Any) -> None:
            pass

        def add_axes(self, _place: Any) -> Axes:
            return Axes()

    class Canvas:
        def __init__(self, _figure: Any) -> None:
            pass

        def print_png(self, file: Any) -> None:
            file.write(b"\x89PNG")

    def module(name: str, **names: Any) -> None:
        made = types.ModuleType(name)
        made.__dict__.update(names)
        monkeypatch.setitem(sys.modules, name, made)

    patch = {name: lambda *_args, **_options: None for name in ("Circle", "FancyBboxPatch")}
    module("matplotlib", figure=object())
    module("matplotlib.backends")
    module("matplotlib.backends.backend_agg", FigureCanvasAgg=Canvas)
    module("matplotlib.figure", Figure=Figure)
    module("matplotlib.patches", **patch)
    campaign = many()
    written = views.Views(WorkDir(tmp_path), diff).draw(campaign)
    assert [path.name for path in written] == ["progress.png", "hypothesis_tree.png"]
    assert all(path.read_bytes() == b"\x89PNG" for path in written)
    shapes = [*pictures.progress(campaign).shapes, *pictures.hypothesis_tree(campaign).shapes]
    for kind, name in ((drawing.Line, "plot"), (drawing.Words, "text"), ((drawing.Dot, drawing.Box), "add_patch")):
        assert drawn.count(name) == len([one for one in shapes if isinstance(one, kind)])


def test_without_matplotlib_there_is_no_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not png.is_possible()
    assert views.Views(WorkDir(tmp_path), diff).draw(many()) == []


# -- the page and the texts -------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """The cells of a page's tables, its elements, and the targets of its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: dict[str, list[list[str]]] = {}
        self.elements: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.struck: list[str] = []
        self._table, self._in = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append(tag)
        self._in = tag
        if given.get("id"):
            self.ids.add(given["id"] or "")
        if tag == "a":
            self.links.append(given.get("href") or "")
        if tag == "table":
            self._table = given.get("id") or ""
            self.cells[self._table] = []
        elif tag == "tr":
            self.cells[self._table].append([])
        elif tag in ("td", "th"):
            self.cells[self._table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._table = "" if tag == "table" else self._table
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "s":
            self.struck.append(data)
        if self._table and self.cells[self._table] and self.cells[self._table][-1]:
            self.cells[self._table][-1][-1] += data


def test_the_page_has_the_numbers_of_the_journal_and_runs_nothing() -> None:
    campaign = many()
    seen = Reader(page.page(campaign))
    rows = {row[0].split()[0]: row for row in seen.cells["nodes"][1:]}
    assert rows.keys() == campaign.nodes.keys()
    for name, node in campaign.nodes.items():
        assert rows[name][3] == pictures.number(node)
        assert rows[name][5] == ("-" if node.effect is None else f"{node.effect:+.3g}")
    assert {"script", "link", "img", "iframe"}.isdisjoint(seen.elements)
    assert seen.elements.count("svg") == 2
    assert {link.removeprefix("#") for link in seen.links} <= seen.ids


@pytest.mark.parametrize("browser", BROWSERS)
def test_a_browser_shows_the_numbers_of_the_journal_on_a_phone_and_in_the_dark(browser: str, tmp_path: Path) -> None:
    """A whole campaign, and one with a node of each kind and long words; all in one browser, each in a frame."""
    world = begin(tmp_path / "work", SMALL)
    assert work_until_killed(world) is not None
    auto_report.report(world.root)
    measured, _ = store.load(WorkDir(world.root))
    odd = many()
    odd.nodes["n001"].title, odd.nodes["n002"].title = "word" * 60, "a word or two " * 12
    declared = odd.nodes["n003"]
    declared.kind, declared.value, declared.sd = "declared", -0.123456, 0.00012
    shown = [
        (campaign, width, scheme, text)
        for campaign, text in ((measured, (world.root / "report.html").read_text()), (odd, page.page(odd)))
        for width in (390, 1280)
        for scheme in GROUND
    ]
    frames = "".join(
        f'<iframe srcdoc="{html.escape(text)}" style="width: {width}px; border: 0; color-scheme: {scheme}"></iframe>'
        for _, width, scheme, text in shown
    )
    asks = (Path(__file__).parents[1] / "data" / "campaign_asks.js").read_text()
    outer = f"<!doctype html><body>{frames}<script>{asks}</script>"
    for found, (campaign, width, scheme, _) in zip(
        answers_of(browser, outer, tmp_path, 1280, False), shown, strict=True
    ):
        assert (found["width"], found["ground"]) == (width, GROUND[scheme])
        assert found["needs"] <= width, "nothing but tables and pictures scrolls sideways"
        assert 200 < found["what"] < 1280, "a title is neither a column of words nor longer than the page"
        assert found["cut"] == [], "all words of the pictures are whole, each in its box"
        assert campaign.best is not None
        assert found["best"] == [campaign.best.id, *numbers(campaign.best)]
        assert found["nodes"] == {name: numbers(node) for name, node in campaign.nodes.items()}
        assert found["tree"] == found["nodes"]
        assert found["progress"] == {
            name: found["nodes"][name] for name in campaign.judged if campaign.nodes[name].kind != "control"
        }


def numbers(node: Node) -> list[float]:
    """A node's value and spread as they are shown, with six and with two digits."""
    digits = [(node.value, 6), (node.sd, 2)]
    return [float(f"{value:.{places}g}") for value, places in digits if value is not None]


def test_texts_of_an_agent_break_no_view(tmp_path: Path) -> None:
    campaign = many()
    for node in campaign.nodes.values():
        node.title = node.hypothesis = node.reason = node.family = node.analysis = HOSTILE
    ask = Ask(1, "report", None, 0, None, 0.0, "answered", text=HOSTILE)
    campaign.asks[1] = ask
    campaign.rounds[0].refused.append((HOSTILE, HOSTILE))
    campaign.alerts.append((1.0, HOSTILE))
    views.Views(WorkDir(tmp_path), diff).write(campaign)
    seen = read(tmp_path)
    assert len(seen["master_table.tsv"].splitlines()) == len(campaign.nodes) + 1
    assert {line.count("\t") for line in seen["master_table.tsv"].splitlines()} == {len(tables.HEAD) - 1}
    for name in ("progress.svg", "hypothesis_tree.svg"):
        ElementTree.fromstring(seen[name])
    assert "script" not in Reader(seen["report.html"]).elements
    assert not re.search(r"(?<!\\)<script", seen["summary.md"])
    rows = [line for line in seen["summary.md"].splitlines() if line.startswith("| n0")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {9}


def test_a_summary_says_who_the_agent_is() -> None:
    campaign = many()
    campaign.agent_digest = "abc123"
    assert "Agent: `agent`, SHA-256 abc123." in tables.summary(campaign)
    assert "abc123" in page.page(campaign)


def test_the_status_says_what_was_spent_as_the_summary_does() -> None:
    campaign = many()
    assert campaign.gpu_spent.unknown > 0, "a cost that is unknown is not 0"
    shown_lines = auto_status.lines(overview.document(campaign))
    assert f"  spent: {tables.spent(campaign)}" in shown_lines


def test_results_tsv_is_what_autoresearch_writes() -> None:
    campaign = many()
    head, *rows = [line.split("\t") for line in tables.results(campaign).splitlines()]
    assert head == ["commit", "score", "memory_gb", "status", "description"]
    by_title = {row[4].strip(): row for row in rows}
    assert by_title["baseline"][3] == by_title["x = 7"][3] == "keep"
    assert by_title["x = 8"][3] == "discard"
    assert by_title["x = 9"][1:4] == ["0.000000", "0.0", "crash"]
    assert all(len(row[0]) == 7 for row in rows)


# -- the agent's prose ------------------------------------------------------------------------------------------------


def report_of(campaign: Campaign, number: str) -> str:
    (part,) = [one for one in narrate.check(f"It is {number} now.", campaign) if one.struck or one.node]
    return "struck" if part.struck else part.node or ""


def test_numbers_of_prose_are_linked_or_struck_out() -> None:
    campaign = many()
    best, base = campaign.nodes["n007"], campaign.nodes["n000"]
    best.value, best.sd, best.effect = 0.37531, 0.2864, 1.0812
    base.value = -6.76
    for number, expected in {
        "0.37531": "n007", "0.375": "n007", "0.38": "n007", "0.5": "struck", "0.376": "struck", "+1.08": "n007",
        "-1.08": "struck", "0.29": "n007", "-6.76": "n000", "6.8": "n000", "−6.8": "n000", "7": "n007",
        "106 %": "n007", "107%": "struck", "12345": "struck", "1e-9": "struck", "3.7531e-1": "n007",
    }.items():  # fmt: skip
        assert report_of(campaign, number) == expected, number


def test_words_with_digits_are_no_numbers() -> None:
    parts = narrate.check("n007 of v2.1-beta with x7 and adam2", many())
    assert [part for part in parts if part.struck or part.node] == []


def test_prose_is_whole_after_it_was_checked() -> None:
    text = "The rate 0.5 gave 99.9, and n003 [more](http://x) <b>."
    parts = narrate.check(text, many())
    assert "".join(part.text for part in parts) == text
    assert (
        narrate.markdown([Part("a <b>"), Part("1.5", "n001"), Part("9.9", struck=True)]) == r"a \<b\>1.5 (n001)~~9.9~~"
    )


# -- the checkpoint ---------------------------------------------------------------------------------------------------


def test_edits_of_the_checkpoint_are_steering() -> None:
    campaign = many()
    shown = checkpoint.document(campaign)
    assert [row["id"] for row in shown["queue"]] == ["n010", "n011"]
    assert checkpoint.edits(campaign, shown) == []
    shown["queue"][1]["priority"] = 99
    del shown["queue"][0]
    found = checkpoint.edits(campaign, shown)
    assert [(one.verb, one.node) for one in found] == [("kill", "n010"), ("boost", "n011")]
    assert checkpoint.shows(shown) == campaign.seq
    odd_ones: list[Any] = [None, [], {}, {**shown, "queue": 1}, {**shown, "seq": "1"}, {**shown, "format": "other"}]
    for odd in odd_ones:
        assert checkpoint.shows(odd) is None


def test_a_checkpoint_counts_against_the_line_that_it_shows(tmp_path: Path) -> None:
    """A loop may be killed after its last view: what it did not show was not taken out by a person."""
    world = begin(tmp_path / "work", replace(SMALL, limits=Limits(max_rounds=1)))
    assert work_until_killed(world) is not None
    work = WorkDir(world.root)
    campaign, _ = store.load(work)
    seq = next(seq for seq in range(1, campaign.seq) if _waiting(work, seq) == ["n001"])
    (world.root / "engine").mkdir()
    edited = {**checkpoint.document(store.load_until(work, seq) or campaign), "queue": []}
    (world.root / views.CHECKPOINT).write_text(json.dumps(edited))
    shown_lines: list[str] = []
    (found,) = auto_run.edited(work, campaign, shown_lines.append)
    assert (found.verb, found.node) == ("kill", "n001")
    campaign.requests.add(found.id)
    assert auto_run.edited(work, campaign, shown_lines.append) == [], "it counts once"
    (world.root / views.CHECKPOINT).write_text("{")
    assert auto_run.edited(work, campaign, shown_lines.append) == []
    assert "cannot be read" in shown_lines[0]
    (world.root / views.CHECKPOINT).unlink()
    assert auto_run.edited(work, campaign, shown_lines.append) == []


def _waiting(work: WorkDir, seq: int) -> list[str]:
    then = store.load_until(work, seq)
    return [] if then is None else [row["id"] for row in checkpoint.document(then)["queue"]]


def test_a_report_writes_all_views_anew(tmp_path: Path) -> None:
    world = begin(tmp_path / "work", SMALL)
    assert work_until_killed(world) is not None
    text = auto_report.report(world.root)
    assert text == (world.root / "summary.md").read_text()
    assert "# demo" in text
