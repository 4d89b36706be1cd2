"""Plugins that behave, to start from (worker side). `word_count` is the model: one file, one class, all stdlib."""
