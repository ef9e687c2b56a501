"""Memories: what wraps a controller. Addressing, and the Neural Turing Machine's cell."""
