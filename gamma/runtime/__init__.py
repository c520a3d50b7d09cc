"""What a walk takes from the machine: processors, memory, mapped files, the way by size.

Submodules: ``threads`` (processors and the BLAS), ``pool`` (memory used again), ``heap`` (what the
C library keeps), ``resident`` (pages of mapped files), ``choices`` (the faster way by size).
"""
