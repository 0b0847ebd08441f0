"""The networks of the command line. To add one, add its settings and a line to `NETWORKS`."""

from pydantic import Field

from priory.workbench.settings.base import Settings, Size
from priory.workbench.settings.parts import NetworkPart, as_network_part
from priory.workbench.settings.registry import Registry


class HiddenSettings(Settings):
    """Settings of a network with hidden layers."""

    hidden: tuple[Size, ...] | None = Field(
        None, description="widths of the encoder's hidden layers, reversed in the decoder; for conv, channels"
    )


DEFAULT_HIDDEN = {"mlp": (256, 256), "gated": (300, 300), "conv": (32, 64)}
NETWORKS = Registry("network", "priory.networks", as_network_part)
for _name in DEFAULT_HIDDEN:
    _encoder, _decoder = (f"priory.workbench.models.networks:{_name}_{_part}" for _part in ("encoder", "decoder"))
    _layer = None if _name == "conv" else f"priory.workbench.models.networks:{_name}_layer"
    NETWORKS.register(_name, NetworkPart(HiddenSettings, _encoder, _decoder, _name == "conv", _layer))
