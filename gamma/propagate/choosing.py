"""Which walk serves a call: in memory or streamed, how many boxes at once, on whose threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gamma import tuning
from gamma.errors import UsageError
from gamma.methods import REFINING
from gamma.network.graph import Network
from gamma.propagate.blocks import boxes_at_once, boxes_per_share, boxes_with_rows, row_cost
from gamma.propagate.caps import block_ends, norm_caps
from gamma.propagate.dense import takes_one_call
from gamma.propagate.dense_form import made_for_one_call
from gamma.propagate.domain import Domain, Facts
from gamma.propagate.facts import facts_of
from gamma.propagate.memory.planning import CAPS, MemoryPlan, plan_memory
from gamma.propagate.memory.streaming import StreamingConfig, streamed_walk
from gamma.propagate.options import Options
from gamma.propagate.walks import Walk, walk
from gamma.runtime import choices, threads, workers
from gamma.tensor.box import Box

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Start = Callable[[Box | Domain], Walk]


# Rows of an output that are so few are bounded in float64.
FEW_OUTPUTS = 16
# Neurons from where on interval bounds are dropped once no other node needs them.
_MANY = 1 << 20
# Neurons from where on the work of a convolutional or normalising network is shared among threads.
_SMALL = 4096


def batched(net: Network, box: Box) -> Box:
    """The boxes as a batch of the network's inputs. Raises UsageError when there are none."""
    if not isinstance(box, Box):
        raise UsageError(f"box is {type(box).__name__}, expected a gamma.Box: Box(lower, upper)")
    many = box.batched(net.input_shape)
    if not len(many.lower):
        raise UsageError("the box is an empty batch, expected one input set or more")
    return many


def kept(net: Network, method: str) -> frozenset[int] | None:
    """The nodes whose bounds are kept where the output's are asked for; None: all."""
    if method != "ibp" or facts_of(net).neurons < _MANY:
        return None
    return frozenset((net.output, *block_ends(net).values()))


def few_in_float64(net: Network, method: str, dtype: str) -> bool:
    """Whether rows of the output are bounded in float64: a few cost little, and pay no float32
    charge."""
    return dtype == "auto" and method in REFINING and net.nodes[net.output].size <= FEW_OUTPUTS


def walks_of(
    net: Network,
    options: Options,
    box: Box,
    questions: int,
    streaming: StreamingConfig | None,
    limit: int,
    caps: Facts | None = None,
    keep: frozenset[int] | None = None,
    wide: bool = False,
) -> tuple[Callable[[Box], Walk], int, MemoryPlan | None]:
    """What makes a walk, how many boxes one takes, and the plan when memory was asked about.

    ``caps``: norm caps, where they are known already. ``keep``: as of `walk`. ``wide``: the
    questions' rows may be of float64.
    """
    step = boxes_at_once(net)
    if streaming is None and not limit:
        return _in_memory(net, options, box, caps, keep), step, None
    config = streaming or StreamingConfig()
    config = replace(config, max_memory_bytes=limit or config.max_memory_bytes)
    count = min(step, len(box.lower))
    if takes_one_call(net, Domain(box.slice(0, count)), options):
        count = 1  # such a network is walked box by box: so is it here, for the same bits
    method, row_bytes = options.method, options.row_bytes
    plan = plan_memory(net, count, questions, method, options.dtype, config, row_bytes, keep, wide)
    if not config.enable_crown_streaming:
        return _in_memory(net, options, box, caps, keep), step, plan
    chosen = replace(options, row_bytes=plan.row_bytes)
    start: Start = partial(streamed_walk, net, options=chosen, config=plan.config, keep=keep)
    made = _capped(start, net, options, box, caps, streamed=True) if CAPS in plan.parts else start
    return made, max(1, plan.boxes), plan


def _in_memory(
    net: Network, options: Options, box: Box, caps: Facts | None, keep: frozenset[int] | None
) -> Callable[[Box], Walk]:
    """A walk over some of the boxes that keeps what it needs in memory."""
    start: Start = partial(walk, net, options=options, keep=keep)
    if options.method == "alpha":
        from gamma.propagate.alpha import alpha_walk

        start = partial(alpha_walk, net, options=options)
    return _capped(start, net, options, box, caps)


def _capped(
    start: Start,
    net: Network,
    options: Options,
    box: Box,
    caps: Facts | None,
    streamed: bool = False,
) -> Callable[[Box], Walk]:
    """What makes a walk over some of the boxes, with the norm caps of all of them."""
    if caps is None:
        thrifty = streamed or options.method == "ibp"
        caps = norm_caps(net, box, options.guarantee, thrifty, options.deadline, streamed)
    return (lambda part: start(Domain(part, caps, capped=True))) if caps else start


def in_shares(net: Network, options: Options, box: Box, most: int) -> tuple[int, bool]:
    """Boxes of a share, and whether threads take a share each; ``most``: boxes that memory holds.

    The cut does not depend on the number of threads; of few shares, threads share the inside.
    """
    count = len(box.lower)
    if not options.refines:
        return min(most, boxes_per_share(net, count)), True
    if not facts_of(net).convolves or not tuning.enabled("walks_apart"):
        return most, False
    from gamma.propagate.images import images_of

    images = images_of(net, Domain(box.slice(0, 1)), options)
    step = count if images is None else boxes_with_rows(net, options.method, count, images.boxes)
    if step >= min(most, count):
        return most, False
    threads, shares = workers.workers(), -(-count // step)
    return step, step * threads <= most and (shares >= 2 * threads or shares % threads == 0)


def own_threads(net: Network, method: str) -> AbstractContextManager[None]:
    """A BLAS of one thread where gamma's threads share the work.

    Threads of the BLAS wait for more work by spinning: they would take the processors from ours.
    Changing their number takes 30 µs, as long as a small network.
    """
    shared = method == "alpha" or (method == "crown" and _large(net))
    if not shared or workers.workers() == 1:
        return nullcontext()
    return threads.limit_blas(1)


def _large(net: Network) -> bool:
    """Whether rows, or sets of a transformer, are work to share."""
    facts = facts_of(net)
    if facts.convolves or facts.normalizes:
        return facts.neurons > _SMALL
    if made_for_one_call(net):
        return False  # threads share boxes alone
    return net.cached("choosing.dearest", _dearest) > 2 * choices.limit("rows.share")


def _dearest(net: Network) -> float:
    """Nanoseconds of rows of all neurons of the node where that is most."""
    facts = facts_of(net)
    relaxed = (i for i in range(1, net.output) if facts.relaxed[i])
    return max((2 * facts.sizes[i] * row_cost(net, i) for i in relaxed), default=0.0)
