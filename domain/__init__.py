"""The core: values, rules and ports, free of frameworks and of input or output."""
