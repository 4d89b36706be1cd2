"""Well-behaved plugins as examples (worker side). `word_count` is the model: one file, one class, all stdlib."""
