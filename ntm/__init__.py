"""Neural Turing Machines (Graves, Wayne & Danihelka 2014) and their memory tasks."""
