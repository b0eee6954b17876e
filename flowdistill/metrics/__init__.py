"""Metrics: functions of arrays of features, in float64 where it matters."""
