"""Operations on existing adapters: resize, combine, merge, convert, compare and inspect."""
