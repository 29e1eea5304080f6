"""What a step does, written down while it runs once; what it took for fixed; and what cannot be compiled."""
