"""From groups of forms to kernels: which loops run, in which order, on which task and lane."""
