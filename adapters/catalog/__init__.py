"""Where models and prices come from."""
