"""What can be set about the synthetic world; the defaults are the embedded demo."""

from pydantic import Field

from lima_core.types import Config


class WorldConfig(Config):
    """Streets and the traffic on them."""

    seed: int = 0
    num_streets: int = Field(default=5, ge=2, le=9)
    """Streets each way in a town."""
    traffic: float = Field(default=1.0, ge=0.0, le=3.0)
    """Density of actors, 1 is a busy street."""


class LidarConfig(Config):
    """A spinning LiDAR like the HDL-32E of nuScenes."""

    num_beams: int = Field(default=32, ge=2)
    num_azimuths: int = Field(default=1085, ge=8)
    lowest_deg: float = -30.67
    highest_deg: float = 10.67
    max_range_m: float = 90.0
    range_noise_m: float = Field(default=0.02, ge=0.0)
    dropout: float = Field(default=0.03, ge=0.0, lt=1.0)
    """Share of returns lost whatever they hit; dark, grazed and far surfaces lose more."""


class CameraConfig(Config):
    """Six cameras like those of nuScenes."""

    image_size_px: tuple[int, int] = (224, 400)
    """Height, width."""
    fov_deg: float = 66.0
    """Horizontal field of view of all but the back camera, which sees 110 degrees."""
    noise: float = Field(default=2.0, ge=0.0)
    """Deviation of the sensor noise in grey levels of 255."""
    shadows: bool = True
