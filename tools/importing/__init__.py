"""What import_gguf.py is made of."""
