"""What a model is: operators as nodes of a graph with static shapes, and what is asked about it."""

from gamma.network.graph import Network, Node, Operator, Source

__all__ = ["Network", "Node", "Operator", "Source"]
