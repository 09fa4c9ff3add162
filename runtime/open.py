"""``nnc.compile`` and ``nnc.load``: from a file to a model that runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnc.ir.model import DataSource, Model, Recipe
from nnc.runtime.errors import UserError, nearest
from nnc.runtime.names import BUILT_MAGIC

if TYPE_CHECKING:
    from nnc.frontend.source import Source
    from nnc.ir.span import Span
    from nnc.runtime.manifest import Compiled
    from nnc.runtime.net import Net
    from nnc.runtime.program_cache import Made

TARGETS = ("cpu",)


@dataclass(frozen=True, slots=True)
class Opened:
    """A checked file: the model chosen, its recipe if it has one, and the files it imports."""

    model: Model
    recipe: Recipe | None
    imports: tuple[Path, ...]


def compile(
    path_or_source: str | os.PathLike[str],
    *,
    target: str = "cpu",
    threads: int | None = None,
    model: str | None = None,
    recipe: str | None = None,
    data_folders: Sequence[str | os.PathLike[str]] = (),
    **config: Any,
) -> Net:
    """Compile a model file (or its text) and return it, with fresh weights.

    ``config`` sets the model's config, as ``hidden=256``. ``threads`` defaults to the processors
    this process may use. ``model`` and ``recipe`` choose where a file has several. Raises
    ``nnc.SourceError`` for a fault in the model file and ``nnc.UserError`` for any other.
    """
    return compile_with(
        path_or_source,
        config,
        target=target,
        threads=threads,
        model=model,
        recipe=recipe,
        data_folders=data_folders,
    )


def compile_with(
    path_or_source: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    target: str = "cpu",
    threads: int | None = None,
    model: str | None = None,
    recipe: str | None = None,
    data_folders: Sequence[str | os.PathLike[str]] = (),
) -> Net:
    """Do what ``compile`` does, for config of any name."""
    from nnc.backends.llvm import machine
    from nnc.runtime import program_cache

    check_target(target)
    text, folder = read_text(path_or_source)
    choice = {"config": config, "model": model, "recipe": recipe}
    key = program_cache.key_of(text, folder, target, machine(), choice)
    made = program_cache.find(key)
    if made is None:
        opened = open_file(path_or_source, config, model=model, recipe=recipe)
        with reading(path_or_source):
            made = _made(opened, target, path_or_source)
        program_cache.keep(key, made, opened.imports)
    own = () if folder is None else (folder,)
    net = make_net(made.compiled, threads, made.source, (*own, *map(Path, data_folders)))
    net.initialise()
    return net


def _made(opened: Opened, target: str, path_or_source: str | os.PathLike[str]) -> Made:
    from nnc.runtime.compile import compile_model
    from nnc.runtime.program_cache import Made

    recipe = opened.recipe
    seed = int(recipe.settings.get("seed", 0)) if recipe is not None else 0
    compiled = compile_model(opened.model, recipe, backend_for(target), target, seed)
    manifest = compiled.manifest
    places = _places([site.span for site in manifest.sites], path_or_source)
    compiled = replace(compiled, manifest=replace(manifest, places=places))
    return Made(compiled, recipe.data if recipe is not None else None)


def _places(
    spans: Sequence[Span | None], path_or_source: str | os.PathLike[str]
) -> tuple[str, ...]:
    """Return where spans begin, as ``file:line``; nothing for what has no known place."""
    given = path_or_source if isinstance(path_or_source, str) else Path(path_or_source)
    texts = _sources(spans, given)
    places: list[str] = []
    for span in spans:
        source = texts.get(span.file) if span is not None else None
        if span is None or source is None:
            places.append("")
        else:
            places.append(f"{span.file}:{source.position(span.start)[0]}")
    return tuple(places)


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Net:
    """Return the model in a file that ``nnc build`` wrote, without compiling anything.

    Raises ``nnc.UserError`` for a file that is missing, damaged or built for another machine.
    """
    from nnc.backends.llvm import machine
    from nnc.runtime import artefact

    compiled, weights = artefact.read(Path(path), machine())
    net = make_net(compiled, threads)
    net.initialise()
    net.adopt(weights, str(path))
    return net


def make_net(
    compiled: Compiled,
    threads: int | None,
    source: DataSource | None = None,
    folders: tuple[Path, ...] = (),
) -> Net:
    """Load compiled code and give it memory."""
    from nnc.backends.llvm import machine, team
    from nnc.runtime.executor import Executor
    from nnc.runtime.instance import Instance
    from nnc.runtime.net import Net

    if threads is not None and threads < 1:
        raise UserError("E0644", f"threads is {threads}; it must be at least 1")
    code = backend_for(compiled.manifest.target).load(compiled.code, compiled.manifest.name)
    executor = Executor(Instance(compiled.manifest, code, team(threads)))
    return Net(executor, compiled, machine(), source, folders)


def check_target(target: str) -> None:
    """Raise UserError for a target that there is no backend for."""
    if target not in TARGETS:
        guess = nearest(target, list(TARGETS))
        raise UserError(
            "E0645",
            f"there is no target '{target}'",
            (f"known targets: {', '.join(TARGETS)}",),
            f"did you mean '{guess}'?" if guess else None,
        )


def backend_for(target: str) -> Any:
    """Return the backend of a target."""
    check_target(target)
    from nnc.backends.llvm import LLVMBackend

    return LLVMBackend()


def read_text(path_or_source: str | os.PathLike[str]) -> tuple[str, Path | None]:
    """Return a program's text, and the folder of its file; a text with ``{`` is no path.

    Raises UserError where the file cannot be read.
    """
    if isinstance(path_or_source, str) and ("\n" in path_or_source or "{" in path_or_source):
        return path_or_source, None
    path = Path(path_or_source)
    try:
        raw = path.read_bytes()
        if raw.startswith(BUILT_MAGIC):
            raise UserError(
                "E0654",
                f"'{path}' is a built file, not a model file",
                (),
                "predict takes it, and nnc.load; for the rest give the file it was built from",
            )
        return raw.decode("utf-8-sig"), path.resolve().parent
    except UnicodeDecodeError as fault:
        raise UserError("E0647", f"'{path}' is not UTF-8 text", (str(fault),)) from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise UserError("E0646", f"'{path}' cannot be read", (reason,)) from None


def open_file(
    path_or_source: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    model: str | None = None,
    recipe: str | None = None,
    texts: Mapping[str, str] | None = None,
) -> Opened:
    """Parse and check a model file or its text; ``texts`` are read in the place of files.

    Every fix that a diagnostic has was tried (``frontend/mend``). Raises SourceError with all
    errors, UserError where it cannot be read.
    """
    from nnc.frontend.diagnostics import Diagnostic, SourceError
    from nnc.frontend.recipe import open_program

    given = path_or_source if isinstance(path_or_source, str) else Path(path_or_source)

    def faults(texts: Mapping[str, str]) -> Sequence[Diagnostic]:
        try:
            open_program(given, config, model, recipe, texts=texts)
        except SourceError as error:
            return error.diagnostics
        return ()

    with reading(given):
        try:
            checked, made, program = open_program(given, config, model, recipe, texts=texts)
        except SourceError as error:
            from nnc.frontend.mend import mended

            error.diagnostics = mended(error, lambda more: faults({**(texts or {}), **more}))
            raise
    return Opened(checked, made, tuple(program.loader.loaded))


@contextmanager
def reading(path_or_source: str | os.PathLike[str]) -> Iterator[None]:
    """Let faults found in a program know the texts that they point into.

    Raises UserError where the file cannot be read.
    """
    from nnc.frontend.diagnostics import SourceError

    given = path_or_source if isinstance(path_or_source, str) else Path(path_or_source)
    read_text(given)
    try:
        yield
    except SourceError as fault:
        if fault.sources:
            raise
        spans = [d.span for d in fault.diagnostics]
        spans += [span for d in fault.diagnostics for span, _ in d.related]
        fault.sources = _sources(spans, given)
        raise


def _sources(spans: Iterable[Span | None], given: str | Path) -> dict[str, Source]:
    """Read the texts that spans point into: the file, its imports, the library."""
    from nnc.frontend.elaborate.model import read_source
    from nnc.frontend.library import library_sources

    known = {s.name: s for s in library_sources()}
    main, _ = read_source(given)
    known[main.name] = main
    for span in spans:
        if span is not None and span.file not in known and Path(span.file).is_file():
            known[span.file] = read_source(Path(span.file))[0]
    return known
