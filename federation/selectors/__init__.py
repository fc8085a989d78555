"""Reads of the federation's side, shaped for the API and the console."""
