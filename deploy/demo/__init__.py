"""The main job on real parts, as a user would: four tenants, one base model, rounds over the API."""
