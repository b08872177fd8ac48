"""Values and rules of inference requests, whatever dialect they arrive in."""
