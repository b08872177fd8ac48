"""One file per company or server that runs models; most are values."""
