"""Names of files that the reader looks up."""

ENTITIES = "entities.jsonl"
RUNS = "runs"
SEQUENCES = "sequences.jsonl"
