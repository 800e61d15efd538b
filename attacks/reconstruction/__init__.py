"""Reconstruction of what a model was trained on, from gradients or from the update of a site.

Every result belongs beside what an attacker gets without any gradient (``priors``): only what is
better than that was learnt from the update.
"""
