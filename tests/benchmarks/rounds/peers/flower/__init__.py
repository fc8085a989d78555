"""Flower: FedAvg with training and evaluation on every client."""
