"""`python -m s2pecnet`, which is the command `s2pecnet`."""

from s2pecnet.cli import main
from s2pecnet.cli.command import run_command


def run() -> None:
    """Run the command line and leave with its exit status."""
    run_command(main)


if __name__ == "__main__":
    run()
