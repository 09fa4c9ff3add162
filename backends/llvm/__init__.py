"""Native CPU code through LLVM."""
