"""Attacks on trained models, and what they prove: arrays and torch modules in, numbers out."""
