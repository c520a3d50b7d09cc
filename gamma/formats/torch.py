"""Networks of PyTorch, by its own exporter; nothing else here knows of torch."""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
import warnings
import weakref
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gamma.errors import UnsupportedError, UsageError
from gamma.formats.detect import load
from gamma.network.graph import Network


def from_torch(module: Any, example_input: Any, *, output: str | None = None) -> Network:
    """The network of a ``torch.nn.Module``, in evaluation mode.

    ``example_input`` is a tensor (1, *input shape) as the module takes it. The module is exported
    to ONNX by torch's own exporter (the newer one where onnxscript is installed) and read from
    there, so that what is bounded, and what a witness is replayed on, is what the exporter wrote: a
    temporary file, ``net.source.path``, which goes when the network does. The module's mode is as
    before afterwards.

    Raises:
        UsageError: torch is not installed, or an argument is no module or no tensor.
        UnsupportedError: the exporter fails. Other errors as in `gamma.load`.
    """
    try:
        import torch
    except ImportError:
        raise UsageError(
            "from_torch needs the package torch: pip install torch onnxscript"
        ) from None
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"module is {type(module).__name__}, expected a torch.nn.Module")
    if not isinstance(example_input, torch.Tensor):
        raise UsageError(
            f"example_input is {type(example_input).__name__}, expected a torch.Tensor "
            "(1, *input shape)"
        )
    training = module.training
    module.eval()
    folder = tempfile.mkdtemp(prefix="gamma-torch-")
    try:
        path = Path(folder) / f"{type(module).__name__}.onnx"
        _export(torch, module, example_input, path)
        net = load(path, output=output)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        module.train(training)
    # Networks derived from this one share its source, and so the file.
    weakref.finalize(net.source, shutil.rmtree, folder, ignore_errors=True)
    return net


def _export(torch: Any, module: Any, example_input: Any, path: Path) -> None:
    quiet = io.StringIO()
    # The newer exporter needs onnxscript.
    how: dict[str, Any] = {"dynamo": find_spec("onnxscript") is not None, "external_data": False}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(quiet), redirect_stderr(quiet):
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (example_input,), str(path), **how)
    except Exception as error:  # the exporter has no documented kinds
        line = " ".join(str(error).split())[:300]
        raise UnsupportedError(
            f"torch cannot export {type(module).__name__} to ONNX: {type(error).__name__}: {line}"
        ) from None
