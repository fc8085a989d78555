"""The training engine beside what a user would pick: the Hugging Face Trainer with PEFT, and a loop by hand."""
