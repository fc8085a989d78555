"""Settings of the customization methods, one file each, without torch: what the web and the coordinator know of them.

Each class has its `kind`; `sends(name)`: whether this tensor of a version is trained and travels in an update; and
`default_max_relative_norm`: the bound on an update that suits the method where the specification sets none.
The learning code of the same name is in `training_workers.methods`.
"""

from typing import Annotated

from pydantic import Field

from federation.methods.lora import LoraSettings
from federation.methods.prefix import PrefixSettings
from federation.methods.prompt import PromptSettings

__all__ = ["LoraSettings", "MethodSettings", "PrefixSettings", "PromptSettings"]

MethodSettings = Annotated[LoraSettings | PrefixSettings | PromptSettings, Field(discriminator="kind")]
