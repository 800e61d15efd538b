"""Quantisation, packing, masks, encryption, keys and signed envelopes."""
