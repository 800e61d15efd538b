"""Every lower bound on ε in one place; docs/explanation/audit-statistics.md says which to use."""

from attacks.gaussian import gaussian_epsilon
from attacks.limits import Bound
from attacks.one_run import fdp_epsilon, one_run_epsilon, one_run_p_value
from attacks.thresholds import guess_bound, score_bound
from attacks.two_rates import gdp_epsilon, two_rate_epsilon, two_rate_size

__all__ = [
    "Bound",
    "fdp_epsilon",
    "gaussian_epsilon",
    "gdp_epsilon",
    "guess_bound",
    "one_run_epsilon",
    "one_run_p_value",
    "score_bound",
    "two_rate_epsilon",
    "two_rate_size",
]
