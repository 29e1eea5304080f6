"""From loops to text: expressions on elements, printers of loops and of files for the CPU and for CUDA."""
