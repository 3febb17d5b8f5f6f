"""An option that several verbs have means the same in all of them, and is described in the same words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import click

from skill.cli.main import VERBS, load

MORE_THAN_ONE_MEANING = {
    "--agent", "--all", "--brief", "--check", "--cmd", "--command", "--control", "--dry-run", "--every", "--for",
    "--force", "--from", "--gpus", "--host", "--html", "--id", "--idea", "--metric", "--name", "--new", "--output",
    "--phase", "--pool", "--project", "--reason", "--run", "--target", "--worker-pool", "--yes", "-n",
}  # fmt: skip
"""What the verb is about decides: the hosts to use or to pull from, the jobs to cancel or to retry."""


def _commands(command: click.Command, words: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _commands(inner, f"{words} {name}")
    else:
        yield words, command


def test_an_option_has_the_same_words_in_all_verbs() -> None:
    texts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for verb in VERBS:
        for words, command in _commands(load(verb), verb):
            for option in command.params:
                for name in option.opts if isinstance(option, click.Option) and not option.hidden else ():
                    assert option.help, f"{words} {name} has no help"
                    texts[name][option.help].append(words)
    differ = {
        name: dict(meanings)
        for name, meanings in texts.items()
        if len(meanings) > 1 and name not in MORE_THAN_ONE_MEANING
    }
    assert differ == {}
    assert {name for name in MORE_THAN_ONE_MEANING if len(texts[name]) < 2} == set(), "these have one meaning now"
