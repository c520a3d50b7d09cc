"""The methods a walk can be asked for, by what they do."""

METHODS = ("ibp", "crown-ibp", "crown", "alpha")
GUARANTEES = ("real", "float32")

# Methods that give inner neurons rows of their own.
REFINING = frozenset({"crown", "alpha"})
