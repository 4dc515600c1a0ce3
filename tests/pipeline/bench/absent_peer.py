"""A peer that cannot run here."""

NAME = "absent peer"


def precisions(device: str) -> tuple[str, ...]:
    return ("fp32",)


def missing(device: str) -> str:
    return f"not installed for {device}"
