// Written with its kernel.
