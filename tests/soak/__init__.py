"""`make soak`: a bounded load of mixed requests, and a reckoning to the last nano-dollar at its end."""
