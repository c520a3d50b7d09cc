"""Branch and bound: sub-problems until each is proved, or a witness is found.

A sub-problem is a part of a region (a smaller box, or the inputs at which some neurons are on one
side of 0) and the unsafe conjunctions that are not excluded there yet. Nothing is ever excluded on
anything but the sound bound of a walk; what chooses where to split is a hint.
"""
