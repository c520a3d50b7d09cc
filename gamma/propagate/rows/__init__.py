"""Rows, linear forms over nodes, and their way down to the input: tables, blocks, the descent."""
