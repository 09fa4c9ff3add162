"""The ``nnc`` command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_FAULT = 1
"""Exit code where what the user gave is at fault; usage errors are click's 2."""


class Setting(click.ParamType[Any]):
    """``name=value`` with a number, a truth value, or else text."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        """Return (name, value). Fails (usage) without a name."""
        if isinstance(value, tuple):
            return cast("tuple[str, Any]", value)
        key, found, text = str(value).partition("=")
        if not found or not key:
            self.fail(f"'{value}' is not of the form name=value", param, ctx)
        return key, _value(text)


class Size(Setting):
    """``name=value`` with a whole number of at least 1."""

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        """Return (name, size). Fails (usage) for anything else."""
        name, size = super().convert(value, param, ctx)
        if type(size) is not int or size < 1:
            self.fail(f"'{size}' is no whole number of at least 1", param, ctx)
        return name, size


def _value(text: str) -> Any:
    for parse in (int, float):
        try:
            return parse(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)


def reported(function: Command) -> Command:
    """Report faults of the user's input as messages, with exit code 1."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        from nnc.frontend.diagnostics import SourceError
        from nnc.runtime.errors import UserError
        from nnc.runtime.report import print_source_error, print_user_error

        try:
            return function(*args, **kwargs)
        except SourceError as fault:
            print_source_error(fault, as_json=bool(kwargs.get("as_json")))
        except UserError as fault:
            print_user_error(fault, as_json=bool(kwargs.get("as_json")))
        sys.exit(EXIT_FAULT)

    return cast("Command", run)


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def apply(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


FILE = click.argument("file", type=click.Path(path_type=Path))
SET = click.option("--set", "config", type=Setting(), multiple=True, help="Set config, name=value.")
MODEL = click.option("--model", default=None, help="Which model, where the file has several.")
RECIPE = click.option("--recipe", default=None, help="Which train block, where there are several.")
TARGET = click.option("--target", default="cpu", show_default=True, help="What to compile for.")
THREADS = click.option("--threads", type=click.IntRange(1), help="Default: all usable processors.")
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
DATA = click.option(
    "--data", "folders", multiple=True, type=click.Path(path_type=Path, file_okay=False),
    help="A further folder that data paths may name files in.",
)  # fmt: skip
WEIGHTS = click.option(
    "--weights", type=click.Path(path_type=Path),
    help="A safetensors file, or the folder of a run.",
)  # fmt: skip

SOURCE = _options(FILE, SET, MODEL, RECIPE)


class Commands(click.Group):
    """The subcommands; a wrong use is told as other faults are, with exit code 2."""

    def main(self, args: Any = None, prog_name: Any = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run the command that the arguments ask for."""
        if not extra.pop("standalone_mode", True):
            return super().main(args, prog_name, standalone_mode=False, **extra)
        words = list(sys.argv[1:] if args is None else args)
        try:
            done = super().main(words, prog_name, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as fault:
            fault.show()
            sys.exit(fault.exit_code)
        except click.UsageError as fault:
            from nnc.runtime.usage import wrong_use

            wrong_use(fault, self, as_json="--json" in words)
            sys.exit(fault.exit_code)
        except click.ClickException as fault:
            fault.show()
            sys.exit(fault.exit_code)
        except click.Abort:
            print("stopped", file=sys.stderr)
            sys.exit(EXIT_FAULT)
        sys.exit(done if isinstance(done, int) else 0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nnc")
def main() -> None:
    """Check, train, evaluate, run and build neural networks written in the nnc language."""


@main.command()
@SOURCE
@click.option("--fix", is_flag=True, help="Apply the fixes that the errors offer, and check again.")
@click.option("--diff", is_flag=True, help="With --fix: show the changes and write nothing.")
@JSON
@reported
def check(file: Path, as_json: bool, fix: bool, diff: bool, **source: Any) -> None:
    """Prove every shape; print parameters, multiply-adds and exact memory."""
    if diff and not fix:
        raise click.UsageError("--diff shows what --fix would change; give both")
    if fix:
        from nnc.runtime.facts import check_and_mend

        check_and_mend(file, as_json=as_json, diff=diff, **_named(source))
        return
    from nnc.runtime.facts import check as run

    run(file, as_json=as_json, **_named(source))


@main.command()
@SOURCE
@DATA
@TARGET
@THREADS
@WEIGHTS
@click.option("--out", type=click.Path(path_type=Path), help="Default: runs/NAME.")
@click.option("--epochs", type=click.IntRange(1), help="Instead of the file's own count.")
@click.option("--steps", type=click.IntRange(1), help="Instead of the file's own count.")
@click.option("--seed", type=int, help="Instead of the file's own seed.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --out.")
@JSON
@reported
def train(file: Path, as_json: bool, **options: Any) -> None:
    """Train a model as its train block says; write weights and history."""
    from nnc.runtime.commands import train as run

    run(file, as_json=as_json, **_named(options))


@main.command(name="eval")
@SOURCE
@DATA
@TARGET
@THREADS
@WEIGHTS
@click.option("--split", default=None, help="train, validation or test.")
@JSON
@reported
def evaluate(file: Path, as_json: bool, **options: Any) -> None:
    """Measure every loss and metric over a split of the data."""
    from nnc.runtime.commands import evaluate as run

    run(file, as_json=as_json, **_named(options))


@main.command()
@SOURCE
@TARGET
@THREADS
@WEIGHTS
@click.option(
    "--input", "inputs", type=Setting(), multiple=True, required=True,
    help="name=FILE (.npy, .npz or idx): one input.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="An .npz file for the outputs.")
@JSON
@reported
def predict(file: Path, as_json: bool, **options: Any) -> None:
    """Compute the model's outputs for given inputs. FILE is a model file or a built file."""
    from nnc.runtime.commands import predict as run

    run(file, as_json=as_json, **_named(options))


@main.command()
@SOURCE
@TARGET
@WEIGHTS
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: FILE with .nnx.")
@JSON
@reported
def build(file: Path, as_json: bool, **options: Any) -> None:
    """Write one file (code, manifest, weights) that runs without compiling."""
    from nnc.runtime.commands import build as run

    run(file, as_json=as_json, **_named(options))


@main.command()
@SOURCE
@click.option("--stage", default="graph", show_default=True, help="ast, graph, fused, loops, ...")
@click.option("--entry", default=None, help="Only this entry: step, infer, ...")
@click.option("--print-after", default=None, metavar="PASS", help="Print the graph after a pass.")
@click.option("--time-passes", is_flag=True, help="Print how long each pass took.")
@reported
def inspect(file: Path, **options: Any) -> None:
    """Print a model at one stage of its compilation."""
    from nnc.runtime.inspect import inspect as run

    run(file, **_named(options))


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 names what would change.")
@click.option("--diff", is_flag=True, help="Change nothing; print what would change.")
def fmt(files: tuple[Path, ...], **options: bool) -> None:
    """Lay out model files in the one style. FILES may be folders, or - for standard input."""
    from nnc.runtime.format_files import format_files

    sys.exit(format_files(files, **options))


@main.command(name="lsp")
@reported
def language_server() -> None:
    """Serve editors over standard input and output (needs the extra: pip install 'nnc[lsp]')."""
    from nnc.runtime.errors import UserError

    try:
        from nnc.runtime.language_server import serve
    except ModuleNotFoundError as missing:
        if missing.name not in ("pygls", "lsprotocol"):
            raise
        hint = "install them: pip install 'nnc[lsp]'"
        message = "the language server needs packages that are not installed"
        raise UserError("E0003", message, (f"{missing.name} is missing",), hint) from None
    serve()


@main.command()
@click.argument("code")
@reported
def explain(code: str) -> None:
    """Explain an error code, with a wrong and a mended program."""
    from nnc.runtime.commands import explain as run

    run(code)


@main.command()
@SOURCE
@click.option(
    "--dims",
    type=Size(),
    multiple=True,
    help="Size of a symbolic dim, name=value.",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Of all arrays that are made up.")
@click.option(
    "--seconds", type=float, default=60.0, show_default=True, help="What does not fit is left out."
)
@click.option("--out", type=click.Path(path_type=Path), help="Also write the report, as Markdown.")
@JSON
@reported
def verify(file: Path, **options: Any) -> None:
    """Hold the compiled model against the interpreter, stage by stage, and against differences."""
    from nnc.runtime.verify.run import command as run

    if not run(file, **_named(options)):
        sys.exit(EXIT_FAULT)


@main.command()
@click.argument("name", required=False)
@click.option(
    "--file", type=click.Path(path_type=Path), help="Look among the names of this file first."
)
@click.option("--source", is_flag=True, help="Print the declaration as it is written.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print all of it as one page.")
@JSON
@reported
def doc(name: str | None, **options: Any) -> None:
    """Tell what NAME means and where it is written; without NAME, list every name."""
    from nnc.runtime.doc import doc as run

    run(name, **options)


@main.group()
def cache() -> None:
    """Tell of the compile cache, or empty it."""


@cache.command()
@JSON
@reported
def info(as_json: bool) -> None:
    """Print where the cache lies and what it holds, by kind."""
    from nnc.runtime.cache import info as run

    run(as_json=as_json)


@cache.command()
@JSON
@reported
def clear(as_json: bool) -> None:
    """Remove every entry: the next start compiles anew."""
    from nnc.runtime.cache import clear as run

    run(as_json=as_json)


def _named(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "config": dict(options.get("config", ()))}
