"""The fused twins of the modules, and the dispatcher, which alone knows both."""
