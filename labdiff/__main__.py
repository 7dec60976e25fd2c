"""`python -m labdiff`, and under torchrun `torchrun -m labdiff train model`."""

from labdiff.cli import app

if __name__ == "__main__":
    app(prog_name="labdiff")
