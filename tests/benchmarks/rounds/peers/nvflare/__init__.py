"""NVIDIA FLARE: its FedAvg recipe for NumPy, in its simulator with a thread for each client (which is its default)."""
