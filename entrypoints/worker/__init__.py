"""Background work, inside `gatewayz serve` or alone as `gatewayz worker`."""
