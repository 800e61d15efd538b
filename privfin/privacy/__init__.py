"""The DP-SGD step, its noise, and its accounting."""
