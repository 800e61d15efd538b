"""Metrics per availability cell, with confidence intervals."""
