"""From a program to the stages of a file: simplify, lower, fuse, schedule; validated between passes."""
