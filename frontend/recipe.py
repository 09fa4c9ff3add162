"""Train blocks: ``key = value``, checked against the model, as data for passes and runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnc.frontend import ast
from nnc.frontend.diagnostics import Diagnostics, SourceError
from nnc.frontend.elaborate.calls import (
    apply,
    evaluate_arguments,
    parameters_of,
    resolve,
)
from nnc.frontend.elaborate.convert import Operand, to_node
from nnc.frontend.elaborate.elaborator import Elaborator, deep_python
from nnc.frontend.elaborate.faults import Cascade, Fault, did_you_mean, fault
from nnc.frontend.elaborate.model import Program, elaborate_model, load, pick_model
from nnc.frontend.elaborate.parameters import Arguments
from nnc.frontend.elaborate.scope import Body, Scope
from nnc.frontend.elaborate.settings import precision_type
from nnc.frontend.elaborate.types import working
from nnc.frontend.elaborate.values import Float, Int, Tensor, Text, Value, describe, is_poisoned
from nnc.frontend.optimizers import Choice, Updates, chosen
from nnc.frontend.patterns import fits
from nnc.frontend.reach import unreached
from nnc.frontend.recipe_data import Reader
from nnc.frontend.source import Source
from nnc.ir import build
from nnc.ir.graph import Node
from nnc.ir.model import DataSource, Model, Named, Parameter, Recipe, Update
from nnc.ir.span import Span

LATER = ("adapt", "augment", "budget", "checkpoint", "early_stop", "weights")
"""Keys of the language that this version of the compiler does not have."""
PRECISIONS = ("f32", "f64")


def open_program(
    path_or_source: str | Path | Source,
    config: Mapping[str, Any] | None = None,
    model: str | None = None,
    recipe: str | None = None,
    precision: str | None = None,
) -> tuple[Model, Recipe | None, Program]:
    """Check a file and return the model chosen, and its recipe if it has one.

    ``recipe`` is a train block's alias or the name of its model; without it the only train block
    of the model is taken. Raises SourceError with every diagnostic, OSError where the file cannot
    be read.
    """
    program = load(path_or_source)
    train = pick_train(program, model, recipe)
    if train is None:
        checked = elaborate_model(program, pick_model(program, model), config, precision)
        return checked, None, program
    made = elaborate_recipe(program, train, config, precision)
    return made.model, made, program


def pick_train(program: Program, model: str | None, recipe: str | None) -> ast.Train | None:
    """Return the train block to use, None where the model has none. Raises SourceError."""
    trains = [item for item in program.file.items if isinstance(item, ast.Train)]
    names = [train_name(t) for t in trains]
    if recipe is not None:
        found = [t for t in trains if model is None or t.model.text == model]
        called = [t for t in found if train_name(t) == recipe]
        found = called or [t for t in found if t.model.text == recipe]
    else:
        found = [t for t in trains if model is None or t.model.text == model]
    if len(found) == 1:
        return found[0]
    if not found and recipe is None:
        return None
    program.diagnostics.check()
    if not found:
        hint, _ = did_you_mean(str(recipe), names, None)
        notes = [f"it has {', '.join(names)}"] if names else ["it has none"]
        error = fault(
            "E0412", f"the file has no train block {recipe}", None, hint=hint, notes=notes
        )
    else:
        listed = ", ".join(train_name(t) for t in found)
        error = fault("E0412", "several train blocks fit", None, notes=[f"choose one of {listed}"])
    raise SourceError([error.diagnostic])


def train_name(train: ast.Train) -> str:
    """Return what a train block is called: its alias, or its model's name."""
    return (train.alias or train.model).text


def elaborate_recipe(
    program: Program,
    train: ast.Train,
    config: Mapping[str, Any] | None = None,
    precision: str | None = None,
) -> Recipe:
    """Check a train block with its model.

    ``config`` and ``precision`` override what the block says. Raises SourceError with every
    diagnostic of model and block.
    """
    with deep_python():
        return _Checker(program, train, config or {}, precision).run()


@dataclass(slots=True)
class _Checker:
    """Checks one train block; each key apart, so that all faults are told together."""

    program: Program
    train: ast.Train
    config: Mapping[str, Any]
    precision: str | None
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    keys: dict[str, ast.Setting] = field(default_factory=dict)

    def run(self) -> Recipe:
        self._collect_keys()
        settings = self._settings()
        work = self._parts(self._model(settings))
        with working(work.model.precision):
            return self._recipe(settings, work)

    def _recipe(self, settings: dict[str, Any], work: _Parts) -> Recipe:
        frozen = work.freeze()
        if frozen:
            work = self._parts(self._frozen(settings, work.model, frozen))
        data = work.attempt("data", work.data)
        penalty = work.attempt("regularize", work.penalty)
        updates = work.updates(self.train)
        work.check_reach(penalty)
        self.diagnostics.check()
        if penalty is not None:
            settings["regularize_node"] = penalty
        name = train_name(self.train)
        return Recipe(name, work.model, data, updates, settings, self.train.span)

    def _parts(self, model: Model) -> _Parts:
        body = Body(f"train {train_name(self.train)}", "file", None, "")
        scope = Scope(body, self.program.scope)
        return _Parts(self._elaborator(model), scope, model, self.keys)

    def _frozen(self, settings: Mapping[str, Any], model: Model, frozen: set[str]) -> Model:
        """Return the model in which what is frozen is not trained, and its layers do not train."""
        model = self._model(settings, frozen_instances(model.parameters, frozen))
        kept = [
            replace(p, trainable=p.trainable and p.path not in frozen) for p in model.parameters
        ]
        return replace(model, parameters=tuple(kept))

    def _elaborator(self, model: Model) -> Elaborator:
        elab = Elaborator(model.precision, self.diagnostics, training=True, batch=model.batch)
        for mode in (model.training, model.inference):
            for node in _leaves([*mode.losses, *mode.metrics, *mode.outputs, *mode.updates]):
                elab.leaves.setdefault((node.op.space, node.op.name), node)  # type: ignore[union-attr]
        return elab

    # keys -------------------------------------------------------------------------------------

    def _collect_keys(self) -> None:
        for entry in self.train.entries:
            if isinstance(entry, ast.StepBlock):
                self._later("step blocks", entry.name.span)
                continue
            key = entry.key
            if key.text in LATER:
                self._later(f"the key {key}", key.span)
            elif key.text not in KEYS:
                known = [*KEYS, *LATER]
                hint, fix = did_you_mean(key.text, known, key.span)
                self._add(fault("E0401", f"a train block has no key {key}", key.span,
                                "unknown", notes=[f"the keys are {', '.join(sorted(known))}"],
                                hint=hint, fix=fix))  # fmt: skip
            elif self.keys.setdefault(key.text, entry) is not entry:
                first = self.keys[key.text].key.span
                self._add(fault("E0402", f"{key} is given twice", key.span, "the second",
                                related=[(first, "the first")]))  # fmt: skip
        if "epochs" in self.keys and "steps" in self.keys:
            both = (self.keys["epochs"].key.span, self.keys["steps"].key.span)
            first, second = sorted(both, key=lambda span: span.start)
            self._add(fault("E0402", "training is as long as epochs or steps say, not both",
                            second, "the second", related=[(first, "the first")]))  # fmt: skip

    def _later(self, what: str, span: Span) -> None:
        message = f"{what} cannot be used yet"
        reason = "part of the language, but not of this version of the compiler"
        self._add(fault("E0404", message, span, reason))

    def _add(self, error: Fault) -> None:
        if not isinstance(error, Cascade):
            self.diagnostics.add(error.diagnostic)

    def _settings(self) -> dict[str, Any]:
        """Return the keys that are plain numbers and texts."""
        scope = Scope(Body("a train block", "file", None, ""), self.program.scope)
        elab = Elaborator(precision_type(None), self.diagnostics)
        found: dict[str, Any] = {}
        for name, entry in self.keys.items():
            check = KEYS[name]
            if check is None:
                continue
            try:
                if isinstance(entry.value, ast.Record):
                    raise fault(
                        "E0404", f"a record for {name} cannot be used yet", entry.value.span
                    )
                found[name] = check(name, elab.evaluate(entry.value, scope), entry.value.span)
            except Fault as error:
                self._add(error)
        return found

    def _model(self, settings: Mapping[str, Any], frozen: frozenset[str] = frozenset()) -> Model:
        """Elaborate the model; its faults and those of the block so far are told together."""
        name = self.train.model
        decl = next((m for m in self.program.models() if m.name.text == name.text), None)
        if decl is None:
            names = [m.name.text for m in self.program.models()]
            hint, fix = did_you_mean(name.text, names, name.span)
            self._add(fault("E0412", f"the file has no model {name}", name.span, hint=hint, fix=fix,
                            notes=[f"it has {', '.join(names)}"] if names else ()))  # fmt: skip
            self.diagnostics.extend(self.program.diagnostics)
            raise SourceError(self.diagnostics.sorted())
        precision = self.precision or settings.get("precision")
        try:
            given = self._given(decl)
            return elaborate_model(self.program, decl, self.config, precision, given, frozen)
        except SourceError as error:
            self.diagnostics.extend(error.diagnostics)
            raise SourceError(self.diagnostics.sorted()) from None

    def _given(self, decl: ast.Model) -> Arguments:
        scope = Scope(Body("a train block", "file", None, ""), self.program.scope)
        elab = Elaborator(precision_type(None), self.diagnostics)
        try:
            return evaluate_arguments(elab, scope, self.train, decl.config)
        except Fault as error:
            self._add(error)
            return Arguments()


def frozen_instances(parameters: Sequence[Parameter], frozen: set[str]) -> frozenset[str]:
    """Return the paths of instances all of whose trainable parameters are frozen."""
    holders: dict[str, bool] = {}
    for parameter in parameters:
        parts = parameter.path.split(".")
        for k in range(1, len(parts)):
            holder = ".".join(parts[:k])
            still = not parameter.trainable or parameter.path in frozen
            holders[holder] = holders.get(holder, True) and still
    held = {p.path for p in parameters if p.trainable}
    return frozenset(
        h for h, still in holders.items() if still and any(p.startswith(f"{h}.") for p in held)
    )


def _leaves(named: Sequence[Named]) -> list[Node]:
    from nnc.ir.graph import Leaf, postorder

    return [n for n in postorder(item.node for item in named) if isinstance(n.op, Leaf)]


# plain keys ---------------------------------------------------------------------------------------


def _count(name: str, value: Value, span: Span) -> int:
    if isinstance(value, Int) and isinstance(value.size, int) and value.size >= 1:
        return value.size
    raise _wrong(name, "a whole number, at least 1", value, span)


def _seed(name: str, value: Value, span: Span) -> int:
    if isinstance(value, Int) and isinstance(value.size, int) and 0 <= value.size < 2**63:
        return value.size
    raise _wrong(name, "a whole number, at least 0", value, span)


def _positive(name: str, value: Value, span: Span) -> float:
    number = value.value if isinstance(value, Float) else None
    if isinstance(value, Int) and isinstance(value.size, int):
        number = float(value.size)
    if number is None or not number > 0:
        raise _wrong(name, "a number above 0", value, span)
    return number


def _precision(name: str, value: Value, span: Span) -> str:
    if isinstance(value, Text) and value.value in PRECISIONS:
        return value.value
    if isinstance(value, Text) and value.value in ("f16", "bf16"):
        raise fault("E0404", f"the precision {value.value} cannot be used yet", span,
                    f"there are {' and '.join(PRECISIONS)}")  # fmt: skip
    raise _wrong(name, " or ".join(f'"{p}"' for p in PRECISIONS), value, span)


def _wrong(name: str, wanted: str, value: Value, span: Span) -> Fault:
    if is_poisoned(value):
        return Cascade()
    return fault("E0403", f"{name} is {wanted}", span, f"this is {describe(value)}")


KEYS: dict[str, Callable[[str, Value, Span], Any] | None] = {
    "data": None,
    "optimizer": None,
    "regularize": None,
    "freeze": None,
    "batch": _count,
    "epochs": _count,
    "steps": _count,
    "accumulate": _count,
    "seed": _seed,
    "clip_norm": _positive,
    "precision": _precision,
}
"""The keys of a train block; those that are more than one plain value have no function here."""


# the keys that speak of the model -----------------------------------------------------------------


@dataclass(slots=True)
class _Parts:
    """Checks the keys that speak of parameters and data."""

    elab: Elaborator
    scope: Scope
    model: Model
    keys: Mapping[str, ast.Setting]

    def attempt(self, key: str, check: Callable[[ast.Expr], Any]) -> Any:
        """Return ``check`` of a key's value, None where the key is missing or wrong."""
        entry = self.keys.get(key)
        if entry is None:
            return None
        try:
            return check(entry.value)
        except Fault as error:
            self.elab.report(error)
            return None

    def data(self, expr: ast.Expr) -> DataSource:
        return Reader(self.elab, self.scope, self.model.ports).source(expr)

    def trainable(self) -> list[Parameter]:
        return [p for p in self.model.parameters if p.trainable]

    # patterns ---------------------------------------------------------------------------------

    def fitting(self, pattern: str, span: Span, among: Sequence[Parameter]) -> list[Parameter]:
        """Return the parameters that a pattern fits. Raises Fault where there are none."""
        found = [p for p in among if fits(pattern, p.path)]
        if not found:
            paths = [p.path for p in among]
            if not paths:
                raise Cascade()
            hint, fix = did_you_mean(pattern, paths, span)
            if any(path.startswith(f"{pattern}.") for path in paths):
                hint = f'write "{pattern}.**" for all that it holds'
            listed = ", ".join(paths[:8]) + (", ..." if len(paths) > 8 else "")
            raise fault("E0406", f'the pattern "{pattern}" fits no parameter', span,
                        notes=[f"there are {listed}"], hint=hint, fix=fix)  # fmt: skip
        return found

    def freeze(self) -> set[str]:
        """Return the paths of what is frozen."""
        found = self.attempt("freeze", self._frozen)
        return found if found is not None else set()

    def _frozen(self, expr: ast.Expr) -> set[str]:
        patterns = expr.items if isinstance(expr, ast.List | ast.Tuple) else (expr,)
        paths: set[str] = set()
        for pattern in patterns:
            if not isinstance(pattern, ast.String):
                raise fault("E0403", "freeze is a pattern of paths, or a list of them",
                            pattern.span, hint='freeze = "encoder.**"')  # fmt: skip
            among = self.model.parameters
            paths |= {p.path for p in self.fitting(pattern.value, pattern.span, among)}
        return paths

    def by_pattern(self, expr: ast.Expr) -> list[tuple[str, Span, ast.Expr]]:
        """Return (pattern, place, value) of a record; a plain value stands for all paths."""
        if not isinstance(expr, ast.Record):
            return [("**", expr.span, expr)]
        rows = []
        for entry in expr.entries:
            key = entry.key
            text = key.text if isinstance(key, ast.Ident) else key.value
            rows.append((text, key.span, entry.value))
        return rows

    # optimizers -------------------------------------------------------------------------------

    def updates(self, train: ast.Train) -> tuple[Update, ...]:
        """Return the update of every parameter that is trained."""
        where = train.model.span
        name = self.model.name
        if not self.model.training.losses:
            hint = "add one: loss mse(y, target)"
            self.elab.report(fault("E0405", f"the model {name} has no loss", where, hint=hint))
        if not self.trainable():
            message = f"nothing of {name} is left to train"
            why = "no parameter, or all are frozen"
            self.elab.report(fault("E0405", message, where, why))
        if "optimizer" not in self.keys:
            hint = "add one: optimizer = adam(lr = 1e-3)"
            message = "this train block names no optimizer"
            self.elab.report(fault("E0405", message, where, hint=hint))
        found = self.attempt("optimizer", self._updates)
        return found if found is not None else ()

    def _updates(self, expr: ast.Expr) -> tuple[Update, ...]:
        rows: list[tuple[str, Choice | None]] = []
        among = [p for p in self.model.parameters if p.trainable] or list(self.model.parameters)
        for pattern, place, value in self.by_pattern(expr):
            choice: Choice | None = None
            try:
                choice = chosen(self.elab, self.elab.rule(value, self.scope), value.span)
                self.fitting(pattern, place, among)
            except Fault as error:
                self.elab.report(error)
            rows.append((pattern, choice))
        updates: list[Update] = []
        left: list[str] = []
        maker = Updates(self.elab)
        for parameter in self.trainable():
            row = next((r for r in rows if fits(r[0], parameter.path)), None)
            if row is None:
                left.append(parameter.path)
            elif row[1] is not None:
                updates += self._update(maker, row[1], parameter)
        if left:
            raise fault("E0407", f"no pattern fits {', '.join(left[:8])}", expr.span,
                        "these would have no optimizer",
                        hint='let the last pattern be "**", or name them in freeze')  # fmt: skip
        return tuple(updates)

    def _update(self, maker: Updates, choice: Choice, parameter: Parameter) -> list[Update]:
        try:
            return [maker.of(choice, parameter)]
        except Fault as error:
            self.elab.report(error)
            return []

    # regularisation ---------------------------------------------------------------------------

    def penalty(self, expr: ast.Expr) -> Node | None:
        """Return the sum of what ``regularize`` adds to the loss."""
        total: Node | None = None
        for pattern, place, value in self.by_pattern(expr):
            for parameter in self.fitting(pattern, place, self.trainable()):
                node = self._penalty_of(value, parameter)
                total = node if total is None else build.elementwise("add", total, node)
        return total

    def _penalty_of(self, expr: ast.Expr, parameter: Parameter) -> Node:
        w = self.elab.leaf("state", parameter.path, parameter.type, parameter.span)
        operand = Operand(Tensor(w), expr.span, parameter.path)
        func = expr.func if isinstance(expr, ast.Call) else expr
        arguments = Arguments()
        callee = resolve(self.elab, self.scope, func)
        if isinstance(expr, ast.Call):
            params = parameters_of(callee)[1:]
            arguments = evaluate_arguments(self.elab, self.scope, expr, params)
        arguments = replace(arguments, positional=(operand, *arguments.positional))
        value = apply(self.elab, self.scope, callee, arguments, expr, None)
        if is_poisoned(value):
            raise Cascade
        if isinstance(value, Tensor) and value.shape:
            raise fault("E0403", "what regularize adds to the loss is one number", expr.span,
                        f"for {parameter.path} this is {describe(value)}",
                        hint="sum it: fn ridge(w: float[..s]) -> float = sum(w^2)")  # fmt: skip
        return to_node(self.elab, Operand(value, expr.span), self.model.precision, ())

    # gradients --------------------------------------------------------------------------------

    def check_reach(self, penalty: Node | None) -> None:
        """Report parameters that training would leave as they are, and what cuts them off."""
        goals = [item.node for item in self.model.training.losses]
        if penalty is not None:
            goals.append(penalty)
        if not goals:
            return
        spans = {p.path: p.span for p in self.trainable()}
        causes: dict[tuple[str, tuple[Span, ...]], list[str]] = {}
        for path, cut in unreached(goals, spans):
            owner = path.rpartition(".")[0] or path
            places = tuple(dict.fromkeys(n.span for n in cut if n.span is not None))
            causes.setdefault((owner, places), []).append(path)
        for (owner, places), paths in causes.items():
            what = "no gradient passes" if places else "no loss depends on it"
            pattern = paths[0] if len(paths) == 1 else f"{owner}.*"
            self.elab.report(fault("E0411", f"training would never change {' and '.join(paths)}",
                                   spans[paths[0]], what,
                                   related=[(p, "the gradient ends here") for p in places[:3]],
                                   hint=f'freeze = "{pattern}" if that is meant'))  # fmt: skip
