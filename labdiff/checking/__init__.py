"""How an answer is judged: run a probe, compare what came out, explain."""

from labdiff.checking.notebook import check, hint, when_done

__all__ = ["check", "hint", "when_done"]
