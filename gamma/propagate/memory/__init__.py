"""Walks within a memory limit: bounds stored in part, what that takes, and its public face."""
