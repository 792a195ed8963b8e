"""What low rank is used for beside adapters: one application to a file or folder."""
