"""What settings must be, in one line each that names the flag; for csi_audit.configs and others."""

from channels.support import CsiAuditError


def check_names(compressor: tuple[str, ...]) -> None:
    if isinstance(compressor, str):
        raise CsiAuditError(
            f"compressor must be a tuple of names; got the string {compressor!r}. "
            f"Write ({compressor!r},)."
        )
    if not compressor:
        raise CsiAuditError(
            "compressor must name at least one; got none. Example: --compressor klt-16."
        )
    twice = [name for i, name in enumerate(compressor) if name in compressor[:i]]
    if twice:
        raise CsiAuditError(f"compressor {twice[0]!r} is named twice. Name each one once.")


def check_listed(name: str, values: tuple[str, ...] | tuple[int, ...], example: object) -> None:
    """Refuse anything but a tuple of different values, at least one."""
    if not isinstance(values, tuple) or not values:
        raise CsiAuditError(
            f"{name} must be a tuple of at least one value; got {values!r}. Write ({example!r},)."
        )
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise CsiAuditError(f"{name} {twice[0]!r} is named twice. Name each one once.")


def check_rate(learning_rate: float) -> None:
    if not 0 < learning_rate < float("inf"):
        raise CsiAuditError(f"learning_rate must be positive; got {learning_rate}.")


def at_least(config: object, name: str, least: int) -> None:
    value = getattr(config, name)
    if value < least:
        raise CsiAuditError(f"{name} must be at least {least}; got {value}.")
