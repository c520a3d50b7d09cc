"""Verdicts about properties: bounds, attacks, branch and bound, replayed witnesses, suites."""
