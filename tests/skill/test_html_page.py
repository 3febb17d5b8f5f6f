"""The page of a run: its numbers are those of the state, it asks nothing of a network, and it shows no secret.

In a real browser, where one is installed, what its scripts draw and list is read back and compared with the state.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core import failure_advice
from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.readings import Card
from queue_manager.core.times import iso
from skill.cli import main
from skill.common.errors import DONE, USE
from skill.operations import report_run
from skill.reports import cells, gpu_time, html_page, report
from skill.reports.effect import effect
from skill.reports.html_data import Material
from skill.runs.assignment import SUBMITTED, Assigned, Part
from skill.runs.directory import Run
from skill.runs.merge import Look, merge
from tests.browser import BROWSERS, Frame, answers_of_frames
from tests.skill import sweep
from tests.skill.story import RUN_ID, T0, Story, job, manifest
from tests.skill.sweep import Sweep

ROOT = Path(__file__).resolve().parents[2]
CONTROL = {"lam": "0.0"}


class Made:
    """The sweep, its page, and what the page says, once for all tests."""

    def __init__(self, root: Path) -> None:
        folder = root / LOCAL_RUNS / sweep.RUN_ID
        folder.mkdir(parents=True)
        self.sweep: Sweep = sweep.build(folder)
        self.page = report_run.report_page(Run.at(folder), CONTROL)
        self.file = root / "report.html"
        self.file.write_text(self.page, encoding="utf-8")
        self.read = Reader(self.page)
        self.data: dict[str, Any] = json.loads(self.read.data)

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.sweep.document["jobs"]
        return rows


class Reader(HTMLParser):
    """The tables of a page by their ids, all that it points to, and its data."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: dict[str, list[list[str]]] = {}
        self.targets: list[tuple[str, str, str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.marked: dict[str, str] = {}
        self.data = ""
        self._table: list[list[str]] | None = None
        self._in_data = self._in_cell = False
        self._mark: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self.targets += [
            (tag, name, found[name] or "") for name in ("src", "href", "action", "srcset") if name in found
        ]
        if tag == "table":
            self._table = self.tables.setdefault(found.get("id") or "", [])
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th") and self._table:
            self._table[-1].append("")
            self._in_cell = True
        elif tag == "script":
            self._in_data = found.get("id") == "data"
        self._mark = next((f"{name}={found[name]}" for name in ("data-count", "data-hours") if name in found), None)

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._table = None
        elif tag in ("td", "th"):
            self._in_cell = False
        elif tag == "script":
            self._in_data = False

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data += data
        elif self._mark is not None:
            self.marked[self._mark] = data
            self._mark = None
        if self._table and self._in_cell:
            self._table[-1][-1] += data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("page"))


def the_counts_and_phases_are_those_of_the_state(made: Made) -> None:
    counts = Counter(row["status"] for row in made.rows)
    assert len(made.rows) == 291
    assert {name: int(text) for name, text in made.read.marked.items() if "count" in name} == {
        f"data-count={name}": count for name, count in counts.items()
    }
    head, *phases = made.read.tables["phases"]
    assert head[:4] == ["Phase", "Status", "Jobs", "Completed"]
    for cells_of, phase in zip(phases, made.sweep.document["phases"], strict=True):
        assert cells_of[0] == phase["name"]
        assert [cells_of[2], cells_of[3], cells_of[5]] == [
            str(phase["jobs"]), str(phase["counts"].get("completed", 0)), str(phase["oom_retries"]),
        ]  # fmt: skip


def every_job_of_the_state_is_in_the_data_with_its_numbers(made: Made) -> None:
    jobs = made.data["jobs"]
    columns = jobs["columns"]
    assert columns["id"] == [row["id"] for row in made.rows]
    assert [jobs["statuses"][n] for n in columns["status"]] == [row["status"] for row in made.rows]
    assert columns["attempts"] == [row["attempts"] for row in made.rows]
    for name in ("val_loss", "accuracy"):
        assert jobs["metrics"][name] == [row["metrics"].get(name) for row in made.rows]
    for row, begin, command in zip(made.rows, columns["before"], columns["cmd"], strict=True):
        spec = next(one for one in made.sweep.manifest.jobs if one.id == row["id"])
        assert command == spec.cmd
        assert "conda activate dllm" in jobs["befores"][begin]


def the_timeline_has_each_attempt_once_on_each_of_its_gpus(made: Made) -> None:
    bars, lanes = made.data["timeline"]["bars"], made.data["timeline"]["lanes"]
    ids = made.data["jobs"]["columns"]["id"]
    assert [lane["name"] for lane in lanes] == [f"GPU {n}" for n in range(8)]
    seen = Counter((ids[number], n) for number, n in zip(bars["job"], bars["n"], strict=True))
    assert seen == Counter({(row["id"], n): 1 for row in made.rows for n in range(1, row["attempt"] + 1)})
    outcomes = Counter(made.data["outcomes"][n] for n in bars["outcome"])
    assert outcomes["completed"] == made.sweep.document["counts"]["completed"]
    assert outcomes["out of memory"] == sum(row["oom_attempts"] for row in made.rows) > 0
    assert outcomes["failed"] > 0


def the_hours_of_all_gpus_add_up_to_the_length_of_the_run(made: Made) -> None:
    head, *rows = made.read.tables["hours"]
    assert head == ["GPU", "Used", "Wasted on failures", "Idle", "In all", "USD"]
    length = (made.data["end"] - made.data["begin"]) / 3600
    for row in rows:
        useful, wasted, idle, total, cost = map(float, row[1:])
        assert total == pytest.approx(length, abs=0.006)
        assert useful + wasted + idle == pytest.approx(total, abs=0.016)
        assert cost == pytest.approx(length * 12.8 / 8, abs=0.006)
    bars = made.data["timeline"]["bars"]
    completed = made.data["outcomes"].index("completed")
    useful = sum(b - a for a, b, o in zip(bars["start"], bars["end"], bars["outcome"], strict=True) if o == completed)
    assert float(made.read.marked["data-hours=useful"]) == pytest.approx(useful / 3600, abs=0.06)


def each_cell_has_its_mean_and_its_effect_against_the_control(made: Made) -> None:
    results = cells.read(made.sweep.document, made.sweep.manifest, {}, sweep.RUN_ID)
    table = cells.table(results, {"val_loss": "min", "accuracy": "max"})
    head, *rows = made.read.tables["cells"]
    assert head == ["N", "lam", "T", "val_loss", "accuracy", "Jobs", "Missing"]
    assert len(rows) == len(table.cells) == 96
    by_key = {tuple(cell.key.values()): cell for cell in table.cells}
    for row in rows:
        cell = by_key[row[0], row[1], row[2]]
        for name, text in zip(table.metrics, row[3:5], strict=True):
            if name not in cell.stats:
                assert text == "-"
                continue
            assert text.startswith(cells.stat_text(cell.stats[name]))
            assert ("best" in text) == cell.stats[name].best
            if row[1] == "0.0":
                assert text.endswith("control")
                continue
            found = effect(cell.values[name], by_key[row[0], "0.0", row[2]].values[name])
            interval = "n = 1" if found.low is None else f"{found.low:+.3g} to {found.high:+.3g}"
            assert f"{found.difference:+.3g} ({interval})" in text
        assert [row[5], row[6]] == [str(len(cell.jobs)), str(len(cell.missing) or "-")]
    assert sum("best" in text for row in rows for text in row[3:5]) == 2


def losses_are_those_of_the_logs(made: Made) -> None:
    losses = made.data["losses"]
    assert len(losses) == 60
    assert "60 of 289 logs were read" in made.page
    for curve in losses[:5]:
        name = made.data["jobs"]["columns"]["id"][curve["job"]]
        text = made.sweep.paths.log(name).read_text()
        story = [(float(step), float(loss)) for step, loss in re.findall(r"step (\d+)/5000 loss=([\d.]+)", text)]
        assert list(zip(curve["steps"], curve["values"], strict=True)) == story


def failures_are_grouped_with_their_class(made: Made) -> None:
    assert "exit code 1: ValueError: loss is nan at step 1200" in made.page
    assert '<span class="status s-cancelled">2 jobs cancelled</span>' in made.page
    assert '<span class="status s-stuck">nan: 4 jobs stuck</span>' in made.page
    advice = failure_advice.of_failure("nan", "")
    assert advice is not None
    assert html.escape(advice) in made.page
    _, *rows = made.read.tables["attempts"]
    kinds = {row[0]: [int(row[2]), int(row[3]), int(row[4])] for row in rows if row[0] == "out of memory"}
    ooms = [row for row in made.rows if row["oom_attempts"]]
    completed = sum(row["status"] == "completed" for row in ooms)
    assert kinds == {"out of memory": [sum(row["oom_attempts"] for row in ooms), len(ooms), completed]}
    assert sum(float(row[5]) for row in rows) == pytest.approx(float(made.read.marked["data-hours=wasted"]), abs=0.1)


def the_page_needs_no_network_and_shows_no_value_of_a_variable(made: Made) -> None:
    assert [target for target in made.read.targets if not target[2].startswith("#")] == []
    policy = next(
        attrs["content"] for tag, attrs in made.read.tags if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"@import|url\(", made.page.split("</style>")[0])
    assert "a-value-that-is-secret" not in made.page
    assert "DATA_KEY" in made.page


def what_reads_the_page_aloud_finds_its_way(made: Made) -> None:
    tags = made.read.tags
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in tags}
    assert next(attrs for tag, attrs in tags if tag == "html")["lang"] == "en"
    ids = {attrs["id"] for _, attrs in tags if "id" in attrs}
    for tag, attrs in tags:
        if tag == "section":
            assert attrs["aria-labelledby"] in ids
        if tag == "th":
            assert attrs.get("scope") in ("col", "row")
        if (attrs.get("href") or "").startswith("#"):
            assert (attrs["href"] or "")[1:] in ids
    tables = sum(tag == "table" for tag, _ in tags)
    assert sum(tag == "caption" for tag, _ in tags) == tables > 3


def the_texts_of_the_data_are_each_there_once(made: Made) -> None:
    jobs = made.data["jobs"]
    for name in ("phases", "statuses", "places", "reasons", "befores", "codes"):
        assert len(set(jobs[name])) == len(jobs[name])


def test_the_page_says_what_the_state_says(made: Made) -> None:
    """In one test, since to run the sweep and to report it takes longer than to look at all of it."""
    for check in (
        the_counts_and_phases_are_those_of_the_state,
        every_job_of_the_state_is_in_the_data_with_its_numbers,
        the_timeline_has_each_attempt_once_on_each_of_its_gpus,
        the_hours_of_all_gpus_add_up_to_the_length_of_the_run,
        each_cell_has_its_mean_and_its_effect_against_the_control,
        losses_are_those_of_the_logs,
        failures_are_grouped_with_their_class,
        the_page_needs_no_network_and_shows_no_value_of_a_variable,
        what_reads_the_page_aloud_finds_its_way,
        the_texts_of_the_data_are_each_there_once,
    ):
        check(made)


def test_a_short_run_is_reported_in_minutes() -> None:
    story = Story(manifest(job("a", gpus=1)))
    story.start("a", 0)
    story.at += 88.0
    story.end("a")
    card = Card(0, "GPU-0", "H200", 143771, 3, 0)
    document = story.document("finished", (card,))
    document["meta"].update(started=iso(T0), finished=iso(T0 + 120))
    attempts = gpu_time.attempts({"": story.records}, document["jobs"], T0 + 120)
    material = Material(
        document, story.manifest, report.report(document, {}, [], lambda _: "", T0), [], attempts, {}, 0, {}, T0
    )
    read = Reader(html_page.page(material))
    assert read.marked["data-hours=useful"] == "1.5"
    assert read.tables["hours"][1] == ["GPU 0", "1.50", "0.00", "0.50", "2.00"]


HOSTILE = "</script><img src=x onerror=alert(1)>\u2028 {{ 7 * 7 }} <!-- \" '"


def test_what_a_job_or_a_host_wrote_stays_text() -> None:
    story = Story(manifest(job("a", params={"k": HOSTILE}, metrics={}), job("b", phase="<b>")))
    story.start("a").end("a", "stuck", error=HOSTILE)
    document = story.document()
    document["jobs"][0]["warning"] = HOSTILE
    results = cells.read(document, story.manifest, {"b": {}}, "r")
    made = report.report(document, {}, results, lambda _row: HOSTILE, story.at)
    text = html_page.page(Material(document, story.manifest, made, results, [], {}, 0, {}, story.at))
    read = Reader(text)
    assert [tag for tag, _ in read.tags if tag in ("img", "b")] == []
    assert "49" not in text.split("</style>")[1].split('id="data"')[0]
    assert json.loads(read.data)["jobs"]["reasons"][0] == HOSTILE


def test_no_key_that_a_job_was_given_is_in_the_page() -> None:
    key = "hf_" + "abcdEFGH1234" * 2
    jobs = [
        job(f"j{n}", params={"token": key, "n": str(n)}, metrics={})._replace(cmd=f"run --token {key}") for n in "12"
    ]
    story = Story(manifest(*jobs)).complete("j1", "j2")
    document = story.document()
    results = cells.read(document, story.manifest, {"j1": {"loss": 1.0}, "j2": {"loss": 2.0}}, "r")
    made = report.report(document, {}, results, lambda _row: "", story.at)
    made = {**made, "metrics": []}
    text = html_page.page(Material(document, story.manifest, made, results, [], {}, 0, {}, story.at))
    assert key not in text
    assert "run --token $HF_TOKEN" in text


def test_the_page_of_a_run_on_hosts_tells_them_apart() -> None:
    made = manifest(job("a", gpus=1), job("b", gpus=1))
    parts = tuple(Part(f"gpu-{name}", (name,), SUBMITTED, workspace="w", cwd="w") for name in "ab")
    placed = Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", "/home/me", parts)
    looks, histories = [], {}
    for part in parts:
        story = Story(manifest(job(part.jobs[0], gpus=1))).start(part.jobs[0], 0).end(part.jobs[0])
        document = story.document("finished", (Card(0, "GPU-0", "H200", 143771, 3, 0),))
        looks.append(Look(part.host, document, story.at, False))
        histories[part.host] = story.records
    merged = merge(placed, made, looks, story.at)
    merged["meta"]["hosts"][0]["teardown"] = {"usd_per_hour": 3.0}
    attempts = gpu_time.attempts(histories, merged["jobs"], story.at)
    document = report.report(merged, {}, [], lambda _row: "", story.at, ("a",))
    read = Reader(html_page.page(Material(merged, made, document, [], attempts, {}, 0, {}, story.at)))
    assert [row[0] for row in read.tables["hosts"]] == ["Host", "gpu-a", "gpu-b"]
    assert [row[0] for row in read.tables["hours"]] == ["GPU", "gpu-a GPU 0", "gpu-b GPU 0"]
    assert [row[5] != "-" for row in read.tables["hours"][1:]] == [True, False]
    assert json.loads(read.data)["jobs"]["places"] == ["gpu-a GPU 0", "gpu-b GPU 0"]


def test_a_run_that_has_barely_begun_has_a_page() -> None:
    story = Story(manifest(job("a"), job("b", gpus=1)))
    document = story.document()
    made = report.report(document, {}, [], lambda _row: "", story.at)
    text = html_page.page(Material(document, story.manifest, made, [], [], {}, 0, {}, story.at))
    assert "0 of 2 jobs completed" in text
    assert "the run continues" in text
    assert Reader(text).tables.keys() == {"phases", "table"}


def test_the_libraries_are_as_their_authors_published_them() -> None:
    pinned = json.loads((html_page.VENDOR / "libraries.json").read_text())
    assert {one["file"] for one in pinned} == {f"{name}.min.js" for name in html_page.LIBRARIES}
    for one in pinned:
        data = (html_page.VENDOR / one["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == one["sha256"], one["file"]
        assert one["version"].encode() in data[:200]
        assert "Permission to use, copy, modify" in (html_page.VENDOR / one["licence_file"]).read_text()


def test_all_files_of_the_page_are_part_of_the_package() -> None:
    declared = re.search(r'"skill\.reports" = \[(.*)\]', (ROOT / "pyproject.toml").read_text())
    assert declared is not None
    folder = html_page.VENDOR.parents[1]
    shipped = {
        path for pattern in re.findall(r'"([^"]+)"', declared[1]) for path in folder.glob(pattern) if path.is_file()
    }
    assert shipped == {path for path in (folder / "page").rglob("*") if path.is_file()}


def test_the_data_of_a_page_ends_no_script() -> None:
    text = html_page.script_json({"a": HOSTILE})
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"a": HOSTILE}


# -- the verb -------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory from which a run, the sweep with one seed, is found by its directory's path."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / LOCAL_RUNS / sweep.RUN_ID
    folder.mkdir(parents=True)
    return sweep.build(folder, seeds=sweep.SEEDS[:1]).paths.root


def test_the_verb_writes_a_page_and_writes_it_anew(at_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main.main(["report", "--run", str(at_run), "--html", "out.html", "--control", "lam=0.0"]) == DONE
        assert "out.html: " in capsys.readouterr().out
    assert html_page.MARK in Path("out.html").read_text()


def test_what_cannot_be_written_or_compared_is_reported(at_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.txt").write_text("of my own")
    for arguments, says in (
        (["--html", "mine.txt"], "mine.txt exists and is not a report of wavequeue; give another name"),
        (["--html", "no/out.html"], "no is not a directory; create it first"),
        (["--html", "o.html", "--control", "lam"], "--control lam: write KEY=VALUE, such as --control lam=0"),
        (["--html", "o.html", "--control", "lamb=0"], "--control lamb=0: no key is called lamb; did you mean lam?"),
        (["--html", "o.html", "--control", "lam=0.00"], "lam=0.00: no cell has these values; did you mean 0.0?"),
        (["--html", "o.html", "--control", "lam=9"], "lam is one of: 0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 4.0"),
        (["--html", "o.html", "--json"], "give --json or --html, not both"),
        (["--control", "lam=0.0"], "--control needs --html FILE"),
    ):
        assert main.main(["report", "--run", str(at_run), *arguments]) == USE, arguments
        assert says in capsys.readouterr().err
        assert Path("mine.txt").read_text() == "of my own"
        assert not Path("o.html").exists()


# -- in a browser ---------------------------------------------------------------------------------------------------

ASKS = "<script>" + (ROOT / "tests" / "data" / "page_asks.js").read_text(encoding="utf-8") + "</script>"
ASKS_HEAT = """<script>addEventListener("load", () => setTimeout(() => document.body.append(Object.assign(
  document.createElement("pre"), { id: "answers", textContent: JSON.stringify({
  heat: document.getElementById("heat").textContent,
  cells: document.querySelectorAll("#heat svg rect").length }) })), 500));</script>"""


@pytest.mark.parametrize("browser", BROWSERS)
def test_a_browser_shows_what_the_state_says(browser: str, made: Made, tmp_path: Path) -> None:
    page = made.page.replace("</body>", ASKS + "</body>")
    without_a_key = page_of_a_cell_without_a_key().replace("</body>", ASKS_HEAT + "</body>")
    frames = [Frame(page, 1280), Frame(page, 390, dark=True), Frame(without_a_key, 1280)]
    on_a_desk, on_a_phone, heat = answers_of_frames(browser, frames, tmp_path)
    it_draws_and_lists_what_the_state_says(on_a_desk, made)
    it_fits_a_phone_in_the_dark(on_a_phone)
    assert "not drawn: 1 cell without lam, see the table" in heat["heat"]
    assert heat["cells"] == 3, "N=8 with either lam, and N=16"


def it_draws_and_lists_what_the_state_says(found: dict[str, Any], made: Made) -> None:
    """After a search, two sorts and a click."""
    charts = found["charts"]
    assert {name: chart["label"] is not None for name, chart in charts.items()} == dict.fromkeys(
        ("timeline", "heat", "curve", "loss"), True
    )
    attempts = sum(row["attempt"] for row in made.rows)
    assert charts["timeline"]["bars"] == attempts + 8, "a bar for each attempt, and the ground of each GPU"
    assert charts["timeline"]["label"].startswith("Attempts over time on 8 GPUs or slots: 285 completed")
    assert charts["heat"]["bars"] == 8 * 4 + 1, "and the frame of the best"
    assert charts["curve"]["lines"] == 4
    assert charts["loss"]["lines"] == 60
    assert found["first"] == 100
    assert found["printed"] == 291
    by_id = {row["id"]: row for row in made.rows}
    assert len(found["rows"]) == 291
    for shown in found["rows"]:
        row = by_id[shown[0]]
        story = dict(zip(found["head"], shown, strict=True))
        assert story["Status"] == row["status"]
        assert story["Attempts"] == str(row["attempts"])
        for name in ("val_loss", "accuracy"):
            value = row["metrics"].get(name)
            assert story[name] == "-" if value is None else float(story[name]) == value
    wanted = [row["id"] for row in made.rows if row["id"].startswith("s42_N1024_lam4.0")]
    assert found["search"] == wanted
    losses = {row["id"]: row["metrics"]["val_loss"] for row in made.rows if row["metrics"]}
    assert losses[found["lowest"]] == min(losses.values())
    assert losses[found["highest"]] == max(losses.values())
    (command,) = found["command"]
    spec = next(one for one in made.sweep.manifest.jobs if one.id == found["highest"])
    assert command.splitlines()[0] == "# code: 3f2c1ab"
    assert command.splitlines()[-1] == spec.cmd
    assert sorted(kind for kind, _ in found["saved"]) == ["image/png"] * 4 + ["image/svg+xml"] * 4
    assert all(size > 2000 for _, size in found["saved"])
    assert found["ground"] == "rgb(255, 255, 255)"
    assert not found["wide"]


def it_fits_a_phone_in_the_dark(found: dict[str, Any]) -> None:
    assert found["width"] == 390
    assert not found["wide"], "nothing but tables scrolls sideways"
    assert found["ground"] == "rgb(20, 23, 27)"
    assert all(chart["label"] for chart in found["charts"].values())


def page_of_a_cell_without_a_key() -> str:
    seeds = [("0.0", 1), ("0.0", 2), ("1.0", 1), ("1.0", 2)]
    students = [
        job(f"s{n}", params={"N": "8", "lam": lam, "seed": str(seed)}, metrics={})
        for n, (lam, seed) in enumerate(seeds)
    ]
    story = Story(
        manifest(
            job("teacher", params={"N": "8"}, metrics={}),
            *students,
            job("big", params={"N": "16", "lam": "1.0"}, metrics={}),
        )
    )
    document = story.complete(*(one.id for one in story.manifest.jobs)).document("finished")
    numbers = {one.id: {"loss": 1.0 + n} for n, one in enumerate(story.manifest.jobs)}
    results = cells.read(document, story.manifest, numbers, "r")
    made = {**report.report(document, {}, results, lambda _row: "", story.at), "metrics": []}
    return html_page.page(Material(document, story.manifest, made, results, [], {}, 0, {}, story.at))
