"""The command `s2pecnet`; `commands.py` knows what it can do."""

import s2pecnet


def main() -> None:
    """Run the command line and leave with its exit status."""
    s2pecnet.activate()
    import commands
    from errors import run_command

    run_command(commands.main)


if __name__ == "__main__":
    main()
