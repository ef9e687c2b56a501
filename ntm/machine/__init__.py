"""What the machine is: addressing, memory, the cell, the model, a trace of it at work."""
