"""What a model is: operators as nodes of a graph with static shapes, and what is asked about it."""

from gamma.network.graph import Network, Node, Source

__all__ = ["Network", "Node", "Source"]
