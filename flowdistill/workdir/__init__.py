"""What lies on disk: folders, records, weights, results."""
