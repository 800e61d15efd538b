"""The report as model card, registry entry, bill of materials and PDF."""
