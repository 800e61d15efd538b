"""Copies of a report for people outside: withheld, and made coarse."""
