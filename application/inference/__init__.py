"""Use cases that run models and cost money."""
