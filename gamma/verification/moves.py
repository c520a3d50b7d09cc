"""How the attack's points move: steps from gradients, and back into norm balls."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gamma.network.property import Ball

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class Mover:
    """Turns gradients into steps of length up to 1 per input: their signs, or Adam's."""

    def __init__(self, shape: tuple[int, ...], adaptive: bool) -> None:
        self.adaptive, self.age = adaptive, 0
        self.mean = np.zeros(shape) if adaptive else None
        self.square = np.zeros(shape) if adaptive else None

    def direction(self, slope: Float64, random: np.random.Generator) -> Float64:
        """The step that lowers the objective; random signs where the gradient vanishes."""
        slope = np.where(np.isfinite(slope), slope, 0.0)
        flat = ~slope.any(axis=1)
        if flat.any():
            slope[flat] = random.choice((-1.0, 1.0), size=(int(flat.sum()), slope.shape[1]))
        if self.mean is None or self.square is None:
            return -np.sign(slope)
        self.age += 1
        slope = slope / np.abs(slope).max(axis=1, keepdims=True)
        self.mean = 0.9 * self.mean + 0.1 * slope
        self.square = 0.99 * self.square + 0.01 * slope * slope
        mean = self.mean / (1 - 0.9**self.age)
        spread = np.sqrt(self.square / (1 - 0.99**self.age))
        result: Float64 = np.clip(-mean / (spread + 1e-8), -1.0, 1.0)
        return result


def into_ball(ball: Ball, x: npt.NDArray[np.float32]) -> Float32:
    """Points (points, inputs) pulled straight to the ball's centre until they lie inside."""
    center = np.array([float(c) for c in ball.center])
    step = x.astype(np.float64) - center
    length = np.abs(step).sum(axis=1) if ball.norm == "1" else np.sqrt((step * step).sum(axis=1))
    # A little short of the border, so that rounding to float32 does not leave the ball.
    allowed = float(ball.radius) * (1 - 1e-5)
    factor = np.where(length > allowed, allowed / np.maximum(length, 1e-300), 1.0)
    moved: Float32 = (center + step * factor[:, None]).astype(np.float32)
    return moved
