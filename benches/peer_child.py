"""auto_LiRPA on one network: run by `benches.peer` with the peer's own interpreter, without gamma.

stdin: a pickled request, then a line for each round of measurements; stdout: a JSON line for each.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
import warnings
from typing import Any

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

ACTIVATIONS = {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Gelu": functional.gelu,
    "Silu": lambda x: x * torch.sigmoid(x),
    "Softplus": functional.softplus,
}


class Graph(nn.Module):
    """The nodes of a network, one after the other."""

    def __init__(self, nodes: list[dict[str, Any]]) -> None:
        super().__init__()
        self.nodes = nodes
        self.layers = nn.ModuleDict()
        for index, node in enumerate(nodes):
            if node["kind"] in ("Gemm", "Conv"):
                self.layers[str(index)] = layer(node)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [x]
        for index, node in enumerate(self.nodes[1:], start=1):
            inputs = [values[i] for i in node["inputs"]]
            if str(index) in self.layers:
                values.append(self.layers[str(index)](inputs[0]))
            elif node["kind"] == "Add":
                values.append(inputs[0] + inputs[1])
            elif node["kind"] == "Reshape":
                values.append(inputs[0].reshape(-1, *node["shape"]))
            elif node["kind"] == "Transpose":
                values.append(inputs[0].permute(0, *(a + 1 for a in node["perm"])))
            else:
                values.append(ACTIVATIONS[node["kind"]](inputs[0]))
        return values[-1]


def layer(node: dict[str, Any]) -> nn.Module:
    """A dense layer or a convolution with its weights."""
    weight = torch.from_numpy(node["weight"])
    if node["kind"] == "Gemm":
        made: nn.Module = nn.Linear(weight.shape[1], weight.shape[0])
    else:
        top, left, bottom, right = node["pads"]
        assert (top, left) == (bottom, right)
        made = nn.Conv2d(
            weight.shape[1] * node["group"],
            weight.shape[0],
            tuple(weight.shape[2:]),
            stride=node["strides"],
            padding=(top, left),
            dilation=node["dilations"],
            groups=node["group"],
        )
    made.weight = nn.Parameter(weight, requires_grad=False)
    bias = np.zeros(len(weight), np.float32) if node["bias"] is None else node["bias"]
    made.bias = nn.Parameter(torch.from_numpy(bias), requires_grad=False)
    return made


def main() -> None:
    """One measurement for each line on stdin, until it ends."""
    request = pickle.load(sys.stdin.buffer)
    torch.set_num_threads(request["threads"])
    # The library prints on stdout now and then.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    lower, upper = (torch.from_numpy(e.astype(np.float32)) for e in request["box"])
    middle = (lower + upper) / 2
    model = BoundedModule(Graph(request["nodes"]), torch.zeros_like(middle), device="cpu")
    box = BoundedTensor(middle, PerturbationLpNorm(x_L=lower, x_U=upper))
    while sys.stdin.buffer.readline():
        best = {"wall": np.inf, "cpu": np.inf}
        deadline = time.perf_counter() + request["seconds"]
        while time.perf_counter() < deadline or best["wall"] == np.inf:
            wall, cpu = time.perf_counter(), time.process_time()
            with torch.no_grad():
                low, high = model.compute_bounds(x=(box,), method=request["method"])
            best["cpu"] = min(best["cpu"], time.process_time() - cpu)
            best["wall"] = min(best["wall"], time.perf_counter() - wall)
        width = float((high - low)[0].mean())
        print(json.dumps({**best, "width": width}), file=answer, flush=True)


if __name__ == "__main__":
    main()
