"""Settings of the customization methods, one file each, without torch: what the web and the coordinator know of them.

The learning code of the same name is in `training_workers.methods`.
"""

from typing import Annotated

from pydantic import Field

from federation.methods.full import FullSettings
from federation.methods.lora import LoraSettings
from federation.methods.prefix import PrefixSettings
from federation.methods.prompt import PromptSettings

__all__ = ["FullSettings", "LoraSettings", "MethodSettings", "PrefixSettings", "PromptSettings"]

MethodSettings = Annotated[
    FullSettings | LoraSettings | PrefixSettings | PromptSettings, Field(discriminator="kind")
]
