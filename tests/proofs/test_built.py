"""What is built from the labs' sources is what is committed, as `labdiff build --check` says too."""

from __future__ import annotations

from labdiff.authoring.build import build


def test_everything_built_is_fresh():
    assert build(check=True).stale == []
