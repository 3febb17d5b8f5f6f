"""Save results item by item, so that whatever is killed, a rerun goes on and ends with exactly one result an item.

    from checkpoint import Checkpoint

    with Checkpoint("out/results.json", total=len(items), every=10) as saved:
        for item in saved.rest(items):
            saved.add(evaluate(item))

Every 10 results are written to out/.results.partial.json; after the last one, all go into out/results.json, a JSON
array. Each write is a temporary file that is on the disk before it gets its name. One process writes a path at a time.
Copied by `wavequeue research checkpoint-helper`; it needs nothing but Python 3.8.
"""

from __future__ import annotations

import json
import os
from typing import Any, Iterable, Iterator, List  # noqa: UP035 (Python 3.8)


class Checkpoint:
    """The results of one experiment of `total` items. `every`: after how many new results they are saved."""

    def __init__(self, path: str, total: int, every: int = 10) -> None:
        if total < 0 or every < 1:
            raise ValueError("total has to be at least 0, and every at least 1")
        self.path, self.total, self.every = os.fspath(path), total, every
        folder, name = os.path.split(self.path)
        stem, ending = os.path.splitext(name)
        self.partial = os.path.join(folder, f".{stem}.partial{ending or '.json'}")
        os.makedirs(folder or ".", exist_ok=True)
        self.results: List[Any] = self._load()  # noqa: UP006 (Python 3.8)
        self._saved = len(self.results)

    def rest(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items that have no result yet, in order; they have to be the same in every run."""
        done = len(self.results)
        for number, item in enumerate(items):
            if number >= self.total:
                raise ValueError(f"there are more items than total, which is {self.total}")
            if number >= done:
                if len(self.results) != number:
                    raise ValueError(f"item {number - 1} got no result, or more than one: call add once for each")
                yield item

    def add(self, result: Any) -> None:
        """Take in the result of the next item: anything that JSON can hold."""
        if len(self.results) >= self.total:
            raise ValueError(f"there are {self.total} results already")
        self.results.append(result)
        if len(self.results) - self._saved >= self.every:
            self.save()

    def save(self) -> None:
        """Save what there is now."""
        state = {"completed": len(self.results), "total": self.total, "results": self.results}
        _write(self.partial, state)
        self._saved = len(self.results)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if len(self.results) == self.total:
            _write(self.path, self.results)  # also where it is there: whoever waits for it looks for a new one
            if os.path.exists(self.partial):
                os.unlink(self.partial)
            return
        if len(self.results) > self._saved:
            self.save()
        if kind is None:
            raise ValueError(f"there are {len(self.results)} results of {self.total}: some items got none")

    def _load(self) -> List[Any]:  # noqa: UP006 (Python 3.8)
        for path in (self.path, self.partial):
            try:
                with open(path, encoding="utf-8") as file:
                    found = json.load(file)
            except FileNotFoundError:
                continue
            except ValueError as error:
                raise ValueError(f"{path} was not written by Checkpoint ({error}); move it away") from None
            total, results = (len(found), found) if isinstance(found, list) else _parts(found)
            if total != self.total or not isinstance(results, list):
                raise ValueError(f"{path} is of {total} items, and not of {self.total}; move it away to begin anew")
            return results
        return []


def _parts(found: Any) -> Any:
    return (found.get("total"), found.get("results")) if isinstance(found, dict) else (None, None)


def _write(path: str, value: Any) -> None:
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
