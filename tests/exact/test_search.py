"""The search for wrong bounds: a few fixed rounds; `make nightly` makes a million comparisons.

The faults that it is there to find are planted again, one by one, and must be found and shrunk.
"""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from benches import nightly_exact
from gamma import ops
from gamma.network.graph import Network
from gamma.propagate import abreast, dense_form
from gamma.tensor import kernels
from tests.exact.checking import Count
from tests.exact.search import files, graphs, onnx_truth, rare, recurrent
from tests.exact.search.asking import QUESTIONS, Asking, Space, bounds
from tests.exact.search.case import Case, judge
from tests.exact.search.numbers import Numbers
from tests.exact.search.run import Tally, round_of
from tests.exact.search.simplify import smallest
from tests.exact.search.written import written

SPACES = {
    "operators": Space(sources=("operators",)),
    "files": Space(sources=("file",)),
    "splits": Space(questions=("splits", "linear")),
    "balls": Space(norms=("2", "1")),
    "layers": Space(sources=("layers",)),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_found(name: str, seed: int) -> None:
    tally, size = Tally(), 10 if name in ("balls", "layers") else 20
    found = round_of(seed, SPACES[name], tally, size=size, shrinking=20.0)
    assert found is None, f"{found.wrong[0]}\n{written(found.case)}"
    assert tally.count.comparisons > 40 * size
    assert sum(tally.refused.values()) < tally.cases / 2


def test_small_networks_take_the_ways_of_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls for whole networks are drawn, with the limits moved that would leave them out."""
    if kernels.isa == "numpy":
        pytest.skip("no compiled library")
    from gamma.tensor.native import passes

    seen: Counter[str] = Counter()
    taken, run = abreast.ends_abreast, passes.NetworkPass.run

    def ends_abreast(*args: Any) -> Any:
        found = taken(*args)
        seen["boxes abreast"] += found is not None
        return found

    def asked(self: Any, *args: Any) -> int:
        seen["shared reaches"] += args[4][2]
        seen["threads"] += args[5] > 1
        return run(self, *args)

    def fails(_: object, case: Case) -> bool:
        asking = case.asking
        found = bounds(case.network, case.box, asking)
        if asking.method == "ibp" and asking.isa != "numpy":
            seen["ibp"] += 1
            without = replace(asking, gates=(*asking.gates, "single_pass"))
            other = bounds(case.network, case.box, without)
            ends = ((found[k][side], other[k][side]) for k in found for side in (0, 1))
            seen["products in float32"] += any((a != b).any() for a, b in ends)
        elif asking.method == "crown":
            network, kind = case.network, np.dtype(np.float32)
            with asking.settings():
                form = dense_form.form_of(network, kind)
            seen["rows as lists"] += form is not None and form.sparse
        return False

    monkeypatch.setattr(abreast, "ends_abreast", ends_abreast)
    monkeypatch.setattr(passes.NetworkPass, "run", asked)
    monkeypatch.setattr("tests.exact.search.run._Round.fails", fails)
    space = SPACES["layers"].in_one_call
    for number in (1, 2, 4):
        assert round_of(number, space, Tally(), size=60, shrinking=0.0) is None
    least = {"ibp": 50, "boxes abreast": 3, "shared reaches": 3, "products in float32": 10}
    least |= {"rows as lists": 3, "threads": 2}
    assert all(seen[what] >= count for what, count in least.items()), seen


def test_a_seed_draws_the_same_cases_whatever_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, after other tests, or in one of several processes."""
    seen: list[list[str]] = []
    constants = "\n".join(f"x{k} = {k}, {k} / 7" for k in range(1000, 1250))
    (tmp_path / "imported_by_others.py").write_text(constants)
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        seen.append([])

        def fails(_: object, case: Case) -> bool:
            seen[-1].append(written(case))
            return False

        monkeypatch.setattr("tests.exact.search.run._Round.fails", fails)
        assert round_of(7, SPACES["operators"], Tally(), size=40, shrinking=0.0) is None
        importlib.import_module("imported_by_others")
    assert seen[0] == seen[1] and len(seen[0]) >= 40


def test_every_operator_is_drawn() -> None:
    missing = set(ops.TABLE) - set(graphs.KINDS) - {"Input"}
    assert not missing, f"give {missing} a maker in search/graphs.py and a truth in oracle.py"
    unread = files.undrawn()
    assert not unread, f"give {unread} a maker and a truth in search/rare.py, or a reason there"
    assert not set(rare.UNDRAWN) & set(onnx_truth.FUNCTIONS)


def test_every_maker_of_files_makes_something() -> None:
    """In a few rounds each operator that is said to be drawn comes up, in valid files."""
    models = [model for kind in (*rare.MAKERS, *recurrent.MAKERS) for model in drawn_of(kind)]
    drawn = {node.op_type for model in models for node in model.graph.node}
    for model in models:
        onnx.checker.check_model(model)
    assert not {*rare.FUNCTIONS, *recurrent.FUNCTIONS} - drawn


def drawn_of(kind: str) -> list[onnx.ModelProto]:
    models: list[onnx.ModelProto] = []

    @settings(max_examples=10, database=None, deadline=None, phases=(Phase.generate,))
    @seed(1)
    @given(st.data())
    def draw(data: Any) -> None:
        models.append(files.file(Numbers(data.draw, "", ("float32",)), (kind,)))

    draw()
    return models


def test_a_planted_wrong_bound_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ops.Abs.interval

    def short(self: Any, lower: Any, upper: Any) -> Any:
        low, high = right(self, lower, upper)
        return low, np.where(high > 1, high * (1 - 2.0**-20), high)

    monkeypatch.setattr(ops.Abs, "interval", short)
    space = replace(SPACES["operators"], questions=("bounds",), methods=("ibp",))
    space = replace(space, guarantees=("real",), streaming=("off",), kinds=("Abs",))
    found = round_of(1, space, Tally(), shrinking=2.0)
    assert found is not None
    assert any(isinstance(node.op, ops.Abs) for node in found.case.network.nodes)
    assert judge(found.case, Count()).wrong
    assert "b.add(ops.Abs()" in written(found.case)


def test_the_smallest_case_is_written() -> None:
    builder = graphs.Builder(ops.Input(), (2,), "x")
    builder.add(ops.Tanh(), 0, name="v1")
    builder.add(ops.Gemm(np.array([[0.3, 0.7], [1.7, -2.9]], np.float32), None), 1, name="v2")
    builder.add(ops.Abs(), 2, name="v3")
    builder.add(ops.Relu(), 3, name="v4")
    low = np.array([[0.7, 1.3], [2.6, -7.1], [0.1, 0.2]])
    asking = Asking("layers", "crown", "float32", streaming="shortened", gates=("pool", "windows"))
    case = Case(builder.build(4), low, low + 0.1, asking)

    def fails(case: Case) -> bool:
        """A fault of Abs behind a weight of at least 2, where an input exceeds 2.5."""
        nodes = case.source.nodes if isinstance(case.source, Network) else ()
        heavy = any((abs(getattr(node.op, "weight", np.zeros(1))) >= 2).any() for node in nodes)
        made = any(isinstance(node.op, ops.Abs) for node in nodes)
        return heavy and made and bool((case.upper > 2.5).any()) and "pool" in case.asking.gates

    found = smallest(case, fails, 60.0)
    assert isinstance(found.source, Network)
    assert [node.op.name for node in found.source.nodes] == ["Input", "Gemm", "Abs"]
    assert found.lower.shape == (1, 2) and np.isin(found.upper, (0.0, 1.0, 3.0)).all()
    assert np.isin(found.source.nodes[1].op.weight, (0.0, 1.0, 2.0, -2.0, -3.0)).all()  # type: ignore[attr-defined]
    assert found.asking == Asking("layers", gates=("pool",))


def test_the_command_searches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = ["--only", "sources=operators", "guarantees=real", "factors=1", "kinds=Abs,Gemm"]
    few = ["--bounds", "0", "--seconds", "0", "--limit", "0", "--seed", "1", "--comparisons", "0"]
    monkeypatch.setattr("sys.argv", ["nightly_exact", *few, *space])
    assert nightly_exact.main() == 0
    assert "search from round 1: 0 cases" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["nightly_exact", "--only", "sorces=file"])
    with pytest.raises(SystemExit, match="expected one of"):
        nightly_exact.main()


def test_a_written_case_runs(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for source in (_chain(), _model()):
        for question in QUESTIONS:
            asking = Asking(question, streaming="interval", limits=("rows",))
            case = Case(source, np.zeros((1, 2)), np.ones((1, 2)), asking)
            exec(written(case, tmp_path), {})
            assert capsys.readouterr().out.startswith(
                ("BoundedTensor", "{", "[(Form", "SubProblem")
            )
            assert judge(case, Count()).wrong == ()


def _chain() -> Network:
    builder = graphs.Builder(ops.Input(), (2,), "x")
    builder.add(ops.Gemm(np.array([[1, 0.5]], np.float32), None), 0, name="v1")
    builder.add(ops.Relu(), 1, name="v2")
    return builder.build(2)


def _model() -> onnx.ModelProto:
    nodes = [onnx.helper.make_node("Relu", ["x"], ["v1"], name="v1")]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2])
        for name in ("x", "v1")
    ]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", files.OPSET)], ir_version=9
    )
