"""Runs the attacks of ``attacks/`` against a privfin run, one observer at a time."""
