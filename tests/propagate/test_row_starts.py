"""The order and the parts in which neurons are given rows."""

import numpy as np
import pytest

from gamma.propagate.rows import start

CASES = [(3, (4, 5, 6)), (5, (7, 1, 1)), (2, (11,)), (1, (1, 3, 4)), (4, (2, 3)), (2, (40, 2, 1))]


def _at_once(mask, shape):
    if len(shape) != 3:
        return np.nonzero(mask)
    pixels = shape[1] * shape[2]
    boxes, pixel, channel = np.nonzero(mask.reshape(len(mask), shape[0], pixels).swapaxes(1, 2))
    return boxes, channel * pixels + pixel


@pytest.mark.parametrize(("boxes", "shape"), CASES)
@pytest.mark.parametrize("most", [1, 7, 50, 10**6])
def test_parts_are_the_whole_in_its_order(boxes, shape, most, monkeypatch) -> None:
    monkeypatch.setattr(start, "AT_ONCE", most)
    for share in (0.0, 0.3, 1.0):
        mask = np.random.default_rng(boxes).random((boxes, int(np.prod(shape)))) < share
        parts = list(start.pixel_by_pixel(mask, shape))
        got = [np.concatenate([part[k] for part in parts] or [np.zeros(0)]) for k in (0, 1)]
        for found, expected in zip(got, _at_once(mask, shape), strict=True):
            np.testing.assert_array_equal(found, expected)
        channels = shape[0] if len(shape) == 3 else 1
        assert all(0 < len(part[0]) <= max(most, channels) for part in parts)
