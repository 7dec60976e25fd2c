"""The second cell of every notebook, its first of code; `labdiff.authoring.source` puts the address in."""

# Installs labdiff where it is missing (in Colab, say) and otherwise does nothing.
import importlib.util
import subprocess
import sys

ADDRESS = "git+https://github.com/labdiff/labdiff@v0.0.0"

if importlib.util.find_spec("labdiff") is None:
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", ADDRESS])
