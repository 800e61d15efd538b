"""Encoders, imputers and the multimodal classifier."""
