"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from tests import lock_dir, shared_folder, slurm_cluster
from tests.e2e.runs import World
from tests.laptop import Laptop

# A shell in the background, nohup or perf has what it starts ignore these, and so would all that the tests start.
for _sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2):
    if signal.getsignal(_sign) is signal.SIG_IGN:
        signal.signal(_sign, signal.default_int_handler if _sign == signal.SIGINT else signal.SIG_DFL)

# Every command and manager that a test starts would compile all it imports, which takes longer than the rest.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# What runs of tests have is nothing to other users of this machine, and vice versa.
_LOCK_DIR = lock_dir.set_for_all()
_SHARED = shared_folder.begin()

# The python3 of a folder of shims (pyenv, asdf) is a shell script that starts forty programs to find the real one, and
# hosts and jobs start it hundreds of times.
os.environ["PATH"] = os.pathsep.join(
    f"{sys.base_prefix}/bin{os.pathsep}{folder}" if folder.rstrip("/").endswith("/shims") else folder
    for folder in os.environ["PATH"].split(os.pathsep)
)


collect_ignore_glob = ["e2e/test_slurm*.py"] if slurm_cluster.missing() else []
if slurm_cluster.missing_limits():
    collect_ignore_glob.append("e2e/test_slurm_memory.py")


def pytest_report_header() -> list[str]:
    """Name what is left out on this machine."""
    missing, limits = slurm_cluster.missing(), slurm_cluster.missing_limits()
    if missing is not None:
        return [f"without the tests on a real Slurm cluster: {missing}"]
    return [] if limits is None else [f"without the tests on a Slurm cluster that limits memory: {limits}"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A host of its own; whatever still runs on it is ended afterwards."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def laptop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Laptop]:
    """A person's machine with a project; its hosts are ended afterwards. Its parameter: what the project is called."""
    made = Laptop(tmp_path, getattr(request, "param", "my project"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm_cluster.SlurmCluster]:
    """A Slurm cluster for all tests of a worker, each of which clears it. Two nodes are idle, and no job is there."""
    made = slurm_cluster.SlurmCluster(tmp_path_factory.mktemp("slurm") / "cluster")
    try:
        made.up()
        yield made
    finally:
        made.down()


# Random examples say what has to be mended, and may not keep a change from landing that has nothing to do with them:
# without WAVEQUEUE_DEEP each run tries the same ones. How long one takes says nothing, on a machine that is busy.
settings.register_profile(
    "wavequeue",
    deadline=None,
    derandomize="WAVEQUEUE_DEEP" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("wavequeue")
# It would also try constants that it reads in the source of all modules, and a worker has loaded what its tests needed
# so far: the examples would differ from run to run all the same. There is no setting for it.
if "WAVEQUEUE_DEEP" not in os.environ:
    assert callable(providers._get_local_constants)
    providers._get_local_constants = Constants

_DURATIONS = Path(__file__).with_name("durations.json")
"""Seconds of each test that took more than one in the run of all tests that was recorded last, by its id."""
_took: dict[str, float] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help=f"write {_DURATIONS.name} anew, from all tests")


_LIVE_AGENT = Path(__file__).parent / "auto" / "test_live_agent.py"


def _asks_an_agent() -> bool:
    return os.environ.get("WQ_LIVE_AGENT") == "1"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was not run, where a run of the tests could have had it."""
    if not _asks_an_agent() and any(_LIVE_AGENT.is_relative_to(Path(one).resolve()) for one in config.args):
        terminalreporter.write_line("not run: tests/auto/test_live_agent.py, which asks a real agent (WQ_LIVE_AGENT=1)")


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect no garbage while tests are collected: all that is made then stays. Each worker begins a third sooner.
    Later look for some a tenth as often as usual, which takes a tenth less of all time in a worker."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()
    gc.set_threshold(10_000)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest: begun last, one worker would be at it alone while the others have nothing left.
    What is not recorded counts as long where it starts a whole command or a host."""
    if not _asks_an_agent():
        asks = [item for item in items if item.get_closest_marker("live_agent")]
        config.hook.pytest_deselected(items=asks)
        items[:] = [item for item in items if item not in asks]
    known: dict[str, float] = json.loads(_DURATIONS.read_text(encoding="utf-8"))

    def seconds(item: pytest.Item) -> float:
        guess = 5.0 if "e2e" in item.path.parts else 1.0 if {"world", "laptop"} & set(_fixtures(item)) else 0.0
        return known.get(item.nodeid, guess)

    items.sort(key=seconds, reverse=True)


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _took[report.nodeid] = _took.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Workers of xdist tell how long each test took to the process that started them, which writes it down."""
    shutil.rmtree(_LOCK_DIR, ignore_errors=True)
    if _SHARED is not None:
        shutil.rmtree(_SHARED, ignore_errors=True)
    if session.config.getoption("record_durations") and not hasattr(session.config, "workerinput"):
        long = {name: round(took) for name, took in sorted(_took.items()) if took > 1}
        _DURATIONS.write_text(json.dumps(long, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
