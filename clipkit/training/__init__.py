"""How the built-in model was made, runnable again: data, objective, loop, text and evaluation."""
