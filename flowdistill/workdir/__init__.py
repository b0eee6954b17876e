"""The files of a run: folders, records, weights, results."""
