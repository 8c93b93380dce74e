"""A world that ends with its test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.world import Plan, World

MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    """Make a small, healthy world: few readings, no archive but those by hand."""
    made: list[World] = []

    def make(**settings: object) -> World:
        plan = {"nodes": 1, "interval_s": 0.05, "bounded": False, "archive_interval_s": 3600, "batch_size": 20}
        made.append(World(tmp_path, Plan(**{**plan, **settings})))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for world in made:
        world.end()
