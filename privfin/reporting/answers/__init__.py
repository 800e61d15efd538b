"""What people answer about a run, and the questions that are put to them."""
