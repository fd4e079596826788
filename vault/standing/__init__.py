"""How things stand: one connection, all of them, and everything in numbers. Values, and what follows from them."""
