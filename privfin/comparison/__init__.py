"""Finished runs side by side: what differs, means over seeds, paired tests, pages and plots."""
