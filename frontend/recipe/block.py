"""Train blocks: ``key = value``, checked against the model, as data for passes and runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nnc.frontend import ast
from nnc.frontend.diagnostics import Diagnostics, SourceError
from nnc.frontend.elaborate.calls import evaluate_arguments
from nnc.frontend.elaborate.elaborator import Elaborator, deep_python
from nnc.frontend.elaborate.faults import Cascade, Fault, did_you_mean, fault
from nnc.frontend.elaborate.model import Program, elaborate_model
from nnc.frontend.elaborate.parameters import Arguments
from nnc.frontend.elaborate.scope import Body, Scope
from nnc.frontend.elaborate.settings import precision_type
from nnc.frontend.elaborate.types import working
from nnc.frontend.reach import unreached
from nnc.frontend.recipe.keys import Given
from nnc.frontend.recipe.steps import Around, only_step, steps_of
from nnc.frontend.recipe.table import KEYS, LATER
from nnc.ir.graph import Leaf, Node, postorder
from nnc.ir.model import Model, Named, Parameter, Recipe, Step
from nnc.ir.span import Span


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
    blocks: list[ast.StepBlock] = field(default_factory=list)

    def run(self) -> Recipe:
        self._collect_keys()
        settings = self._settings()
        model = self._model(settings)
        with working(model.precision):
            return self._recipe(settings, model)

    def _recipe(self, settings: dict[str, Any], model: Model) -> Recipe:
        frozen = self._checked(("freeze",), self._elaborator(model), model).get("freeze")
        if frozen:
            model = self._frozen(settings, model, frozen)
        elab = self._elaborator(model)
        self._check_trains(elab, model)
        rest = [n for n, row in KEYS.items() if row.of_model and n not in self._apart]
        found = self._checked(rest, elab, model)
        penalty = found.pop("regularize", None)
        updates = found.pop("optimizer", ())
        around = Around(
            elab, self._scope(), model, {**settings, **found}, self.keys.get("optimizer")
        )
        steps = steps_of(around, self.blocks) if self.blocks else only_step(around, updates)
        for step in steps:
            _check_reach(elab, model, step, penalty)
        found.pop("minimize", None)
        self.diagnostics.check()
        if penalty is not None:
            settings["regularize_node"] = penalty
        data = found.pop("data", None)
        name = train_name(self.train)
        return Recipe(name, model, data, steps, {**settings, **found}, self.train.span)

    @property
    def _apart(self) -> tuple[str, ...]:
        """Keys of the model that are not checked with the rest."""
        return ("freeze", "optimizer") if self.blocks else ("freeze",)

    def _scope(self) -> Scope:
        body = Body(f"train {train_name(self.train)}", "file", None, "")
        return Scope(body, self.program.scope)

    def _frozen(self, settings: Mapping[str, Any], model: Model, frozen: set[str]) -> Model:
        """Return the model in which what is frozen is not trained, and its layers do not train."""
        model = self._model(settings, frozen_instances(model.parameters, frozen))
        kept = [
            replace(p, trainable=p.trainable and p.path not in frozen) for p in model.parameters
        ]
        return replace(model, parameters=tuple(kept))

    def _elaborator(self, model: Model) -> Elaborator:
        elab = Elaborator(model.precision, self.diagnostics, training=True, batch=model.batch,
                          observer=self.program.observer)  # fmt: skip
        for mode in (model.training, model.inference):
            for node in _leaves([*mode.losses, *mode.metrics, *mode.outputs, *mode.updates]):
                elab.leaves.setdefault((node.op.space, node.op.name), node)  # type: ignore[union-attr]
        return elab

    # keys -------------------------------------------------------------------------------------

    def _collect_keys(self) -> None:
        for entry in self.train.entries:
            if isinstance(entry, ast.StepBlock):
                self.blocks.append(entry)
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

    def _checked(
        self, names: Sequence[str], elab: Elaborator, model: Model | None = None
    ) -> dict[str, Any]:
        """Return what the keys among ``names`` that are given hold; faults are added."""
        found: dict[str, Any] = {}
        scope = self._scope()
        for name in names:
            if name not in self.keys:
                continue
            row = KEYS[name]
            try:
                found[name] = row.check(Given(row, self.keys[name].value, elab, scope, model))
            except Fault as error:
                elab.report(error)
        return found

    def _settings(self) -> dict[str, Any]:
        """Return the keys that do not need the model."""
        elab = Elaborator(precision_type(None), self.diagnostics, observer=self.program.observer)
        return self._checked([name for name in self.keys if not KEYS[name].of_model], elab)

    # the model --------------------------------------------------------------------------------

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
        elab = Elaborator(precision_type(None), self.diagnostics, observer=self.program.observer)
        try:
            return evaluate_arguments(elab, self._scope(), self.train, decl.config)
        except Fault as error:
            self._add(error)
            return Arguments()

    def _check_trains(self, elab: Elaborator, model: Model) -> None:
        """Report a model that has nothing to minimise or to change, and a missing optimizer."""
        where = self.train.model.span
        if not model.training.losses:
            hint = "add one: loss mse(y, target)"
            elab.report(fault("E0405", f"the model {model.name} has no loss", where, hint=hint))
        if not any(p.trainable for p in model.parameters):
            message = f"nothing of {model.name} is left to train"
            why = "no parameter, or all are frozen"
            elab.report(fault("E0405", message, where, why))
        if "optimizer" not in self.keys and not self.blocks:
            hint = "add one: optimizer = adam(lr = 1e-3)"
            message = "this train block names no optimizer"
            elab.report(fault("E0405", message, where, hint=hint))


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
    return [n for n in postorder(item.node for item in named) if isinstance(n.op, Leaf)]


def _check_reach(elab: Elaborator, model: Model, step: Step, penalty: Node | None) -> None:
    """Report parameters that a step would leave as they are, and what cuts them off."""
    goals = [item.node for item in model.training.losses if item.name in step.minimize]
    if penalty is not None:
        goals.append(penalty)
    if not goals:
        return
    moved = {u.path for u in step.updates} if step.name else None
    spans = {
        p.path: p.span for p in model.parameters if p.trainable and (not moved or p.path in moved)
    }
    causes: dict[tuple[str, tuple[Span, ...]], list[str]] = {}
    for path, cut in unreached(goals, spans):
        owner = path.rpartition(".")[0] or path
        places = tuple(dict.fromkeys(n.span for n in cut if n.span is not None))
        causes.setdefault((owner, places), []).append(path)
    for (owner, places), paths in causes.items():
        what = "no gradient passes" if places else "no loss depends on it"
        pattern = paths[0] if len(paths) == 1 else f"{owner}.*"
        who = f"the step {step.name}" if step.name else "training"
        elab.report(fault("E0411", f"{who} would never change {' and '.join(paths)}",
                          spans[paths[0]], what,
                          related=[(p, "the gradient ends here") for p in places[:3]],
                          hint=f'freeze = "{pattern}" if that is meant'))  # fmt: skip
