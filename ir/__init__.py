"""The two intermediate representations: graphs of index forms, and loops."""
