"""Completion of the command `s2pecnet` in a shell, made from the parsers by shtab.

    s2pecnet completion bash > ~/.local/share/bash-completion/completions/s2pecnet

Options and choices are the parsers' own. What else an option takes follows from its metavar: FILE is completed
by files, DIR by folders, a config by files and the names of the framework's configs, "auto|cpu|cuda" by these words.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from s2pecnet.cli import COMMANDS, Command, build_map
from s2pecnet.cli.command import PROGRAM, make_parser
from s2pecnet.shipped import CONFIGS_FOLDER

SHELLS = ("bash", "zsh", "tcsh")
FOLDERS = {"DIR"}
FILES = {"FILE", "PATH", "SCORES", "DEV_SCORES", "TABLE", "ASV", "RUN", "YAML", "FILE.png"}
EXAMPLES = """examples:
  s2pecnet completion bash > ~/.local/share/bash-completion/completions/s2pecnet
  s2pecnet completion zsh > ~/.zfunc/_s2pecnet       with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  eval "$(s2pecnet completion bash)"                 for this shell alone
"""


def main(argv: Sequence[str] | None = None, prog: str = "s2pecnet completion") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    print(script(build_parser(prog).parse_args(argv).shell), end="")
    return 0


def build_parser(prog: str = "s2pecnet completion") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, "Print the completion of the command s2pecnet for a shell.", EXAMPLES)
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    return parser


def script(shell: str) -> str:
    """What the shell has to read."""
    import shtab

    tree = build_tree()
    for action in _actions(tree):
        _complete_by(action, {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY})
    text: str = shtab.complete(tree, shell=shell, root_prefix=PROGRAM, preamble=_preamble())  # type: ignore[arg-type]
    if shell == "bash":
        # Folders are completed with a slash, not with a blank.
        text += f"\ncomplete -o filenames -o bashdefault -F _shtab_{PROGRAM} {PROGRAM}\n"
    return text


def build_tree() -> argparse.ArgumentParser:
    """The parser of `s2pecnet` with all its subcommands; it imports every command."""
    parser = build_map()
    tree = parser.add_subparsers(metavar="COMMAND", parser_class=_command_parser)  # type: ignore[call-overload]
    for name, command in COMMANDS.items():
        tree.add_parser(name, help=command.does, command=command)
    return parser


def _command_parser(prog: str, command: Command, **_: object) -> argparse.ArgumentParser:
    return command.parser(prog)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of a parser and of those below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
        else:
            yield action


def _complete_by(action: argparse.Action, kinds: dict[str, Any]) -> None:
    """Say what an argument takes, where the parser does not."""
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if action.dest == "config":
        action.complete = {"bash": "_s2pecnet_configs", "zsh": "_s2pecnet_configs", "tcsh": "f"}  # type: ignore[attr-defined]
    elif metavar in FOLDERS | FILES:
        action.complete = kinds["DIR" if metavar in FOLDERS else "FILE"]  # type: ignore[attr-defined]
    elif "|" in metavar and not action.choices:
        # Words to choose from; what is in capitals stands for something else.
        action.choices = [word for word in metavar.split("|") if word.islower() and ":" not in word]


def _preamble() -> dict[str, str]:
    """The shell's function for configs: the framework's names, those of ./config/, and files."""
    names = " ".join(sorted(path.stem for path in CONFIGS_FOLDER.glob("*.conf")))
    bash = f"""
_s2pecnet_configs() {{
  compgen -W "{names}" -- "$1"
  compgen -f -- "$1"
}}
"""
    zsh = f"""
_s2pecnet_configs() {{
  _alternative "configs:config of the framework:({names})" "files:file:_files"
}}
"""
    return {"bash": bash, "zsh": zsh}
