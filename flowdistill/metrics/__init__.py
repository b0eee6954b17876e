"""Metrics: functions of arrays of features, float64 where it matters."""
