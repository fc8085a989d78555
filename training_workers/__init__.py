"""The training side: what runs next to an accelerator."""
