"""What a program is before it is text: operations on arrays, then loops over elements, and other work."""
