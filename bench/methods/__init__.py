"""Cards of methods, and the way from a method's name to its class."""
