"""Predictions in and out: those made elsewhere become cells of a run, and those of a run become files for others."""
