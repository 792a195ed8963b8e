"""The topics, one module each: every module builds the steps of one explanation."""
