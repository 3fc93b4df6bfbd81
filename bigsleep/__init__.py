"""bigsleep: words in, a picture out. BigGAN's outputs are searched for the image that CLIP finds closest to the words.

from bigsleep import dream
dream("a beautiful house", model="emoji").save("house.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bigsleep.errors import BigsleepError
from bigsleep.settings import Settings

if TYPE_CHECKING:
    from bigsleep.dreamer import Dream, Models, Progress, Snapshot, dream
    from bigsleep.picture import Picture

__all__ = ["BigsleepError", "Dream", "Models", "Picture", "Progress", "Settings", "Snapshot", "dream"]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for, so that ``bigsleep --help`` need not wait for it."""
    if name not in __all__:
        raise AttributeError(f"module 'bigsleep' has no attribute {name!r}")
    from bigsleep import dreamer

    return getattr(dreamer, name)
