"""Sealing a report, and checking a sealed one."""
