"""What is to be moved out of another system, as values: which column is what, how they are written, where they lie."""
