"""Membership-inference attacks and the statistics of privacy audits.

A library of its own: NumPy arrays and torch modules in, results out. It knows nothing of the
federation, the accountant or the files of privfin.
"""

from attacks.target import Target

__all__ = ["Target"]
