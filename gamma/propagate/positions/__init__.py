"""Positions of a sequence that no operator mixes are boxes of one walk."""
