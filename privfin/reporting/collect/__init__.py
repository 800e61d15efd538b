"""Blocks of a report, one module each, made from a run's evidence and a person's answers."""
