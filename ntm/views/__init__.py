"""What people look at; built from run directories and traces alone."""
