"""The graph behind a tensor: as a list, a table and a drawing."""
