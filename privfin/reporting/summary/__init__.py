"""Page one, the proposed risks and the words that a report explains."""
