"""Stages at work: their kinds, references, checks, and assemblies."""
