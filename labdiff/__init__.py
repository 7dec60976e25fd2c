"""Build a small Stable Diffusion for MNIST yourself, and find out at each step whether it is right."""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from labdiff.checking.notebook import being_graded, check, hint, when_done

__all__ = ["being_graded", "check", "hint", "when_done"]


def __getattr__(name: str) -> Any:
    # torch is imported at the first use, so that `import labdiff` costs nothing.
    if name in __all__:
        from labdiff.checking import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'labdiff' has no attribute {name!r}")
