"""How an answer is judged: run a probe, compare what came out, explain."""

from labdiff.checking.notebook import being_graded, check, hint, when_done

__all__ = ["being_graded", "check", "hint", "when_done"]
