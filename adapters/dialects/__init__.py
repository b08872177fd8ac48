"""One folder per language spoken over HTTP."""
