"""Settings of the customization methods, one file each, without torch: what the web and the coordinator know of them.

Each class has its `kind`, and `sends(name)`: whether this tensor of a version is trained and travels in an update.
The learning code of the same name is in `training_workers.methods`.
"""

from federation.methods.prefix import PrefixSettings

__all__ = ["MethodSettings", "PrefixSettings"]

MethodSettings = PrefixSettings
