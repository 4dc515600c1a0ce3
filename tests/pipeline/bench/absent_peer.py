"""A peer that cannot run here."""

NAME = "absent peer"
PRECISIONS = ("fp32",)


def missing(device: str) -> str:
    return f"not installed for {device}"
