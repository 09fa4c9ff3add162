"""What outputs are made from: inputs alone, since to infer nobody gives targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from nnc.frontend.elaborate.faults import Fault, fault
from nnc.ir.graph import Form, Leaf, Node, form_sizes, postorder
from nnc.ir.index import Size, dims_of
from nnc.ir.model import Model, Named, Port


def targets_needed(
    outputs: Iterable[Named], ports: Iterable[Port], actual: Callable[[Size], Size]
) -> Iterator[Fault]:
    """Yield a fault for each target that an output needs, or of which it needs a size.

    ``actual`` gives the size of a dim as the ports' types have it.
    """
    by_kind: dict[str, list[Port]] = {"input": [], "target": []}
    for port in ports:
        by_kind[port.kind].append(port)
    known = _all_dims(size for port in by_kind["input"] for size in port.type.shape)
    for output in outputs:
        leaves, sizes = _needs(output.node)
        unknown = _all_dims(map(actual, sizes)) - known
        for port in by_kind["target"]:
            missing = sorted(unknown & _all_dims(port.type.shape))
            if port.name not in leaves and not missing:
                continue
            what = port.name if port.name in leaves else f"{port.name} for {missing[0]}"
            yield fault(
                "E0231",
                f"the output {output.name} needs the target {what}",
                output.span,
                "an output is made from inputs",
                related=[(port.span, "targets are given in training, not to infer")],
                hint=f"if it is known whenever the model runs, declare it: input {port.name}",
            )


def settle_uses(model: Model) -> Model:
    """Return the model with what each port is there for."""
    training, inference = model.training, model.inference
    measured = (
        *training.losses, *training.updates, *inference.losses, *inference.metrics,
    )  # fmt: skip
    trains = _used(measured, model.ports)
    infers = _used(inference.outputs, [p for p in model.ports if p.kind == "input"])
    ports = tuple(replace(p, trains=p.name in trains, infers=p.name in infers) for p in model.ports)
    return replace(model, ports=ports)


def _used(results: Iterable[Named], ports: Iterable[Port]) -> set[str]:
    """Return the ports that results are made from, and those that alone bring a size in them."""
    names: set[str] = set()
    sizes: set[Size] = set()
    for result in results:
        read, found = _needs(result.node)
        names |= read
        sizes |= found
    known = _all_dims(d for p in ports if p.name in names for d in p.type.shape)
    missing = _all_dims(sizes) - known
    for port in ports:
        if missing & _all_dims(port.type.shape):
            names.add(port.name)
            missing -= _all_dims(port.type.shape)
    return names


def _needs(root: Node) -> tuple[set[str], set[Size]]:
    """Return the names of the inputs and the sizes that a node is made from."""
    leaves: set[str] = set()
    sizes: set[Size] = set()
    for node in postorder([root]):
        sizes.update(node.type.shape)
        match node.op:
            case Leaf("input", name):
                leaves.add(name)
            case Form() as form:
                sizes.update(form_sizes(form), (extent for _, extent in form.axes))
            case _:
                pass
    return leaves, sizes


def _all_dims(sizes: Iterable[Size]) -> frozenset[str]:
    return frozenset[str]().union(*map(dims_of, sizes))
