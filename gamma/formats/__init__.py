"""Readers and the writer of network files: `detect.load` and `save.save`."""
