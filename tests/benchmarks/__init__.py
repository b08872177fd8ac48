"""Benchmarks: every bar is a ratio inside one run, so that a slow or busy machine moves both sides alike."""
