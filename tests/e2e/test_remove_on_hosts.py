"""`rm` of a run on hosts: what hosts keep of it goes, too, and never before its results are here."""

from __future__ import annotations

from tests.laptop import SPEC, Laptop, finish, state, workspace


def test_a_run_is_removed_from_its_hosts_once_its_results_are_here(laptop: Laptop) -> None:
    host = laptop.host("gpu-a")
    laptop.spec(SPEC)
    run_id = laptop.submit()["run_id"]
    assert len(finish(host, run_id)) == 4
    folder = host.home / ".wavequeue" / "runs"
    (folder / "other").mkdir()
    laptop.call("status", "--run", run_id)
    _, err = laptop.call("rm", run_id, "--yes", code=2)
    assert "pull: wavequeue pull" in err
    assert state(host, run_id) is not None
    laptop.call("pull", "--run", run_id)
    _, err = laptop.call("rm", run_id, code=2)
    assert "and what is kept on gpu-a?" in err.replace("\n", " ")
    port = host.port
    host.stop()
    _, err = laptop.call("rm", run_id, "--yes", code=1)
    assert f"{run_id} is kept, since its copy on a host is: gpu-a: " in err
    assert run_id in laptop.runs()
    host.start()
    assert host.port == port
    laptop.call("rm", run_id, "--yes")
    assert laptop.runs() == []
    assert [path.name for path in folder.iterdir()] == ["other"]
    for place in (workspace(host), laptop.project / "code"):
        assert len(list(place.glob("out*"))) == 4, "results stay"
