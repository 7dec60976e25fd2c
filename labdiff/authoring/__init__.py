"""The author's side: one source per lab, and everything that is built from it."""

from labdiff.authoring.proofs import mistake, variant

__all__ = ["mistake", "variant"]
