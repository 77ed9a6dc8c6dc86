//! How often a fault is repeated: a tenth by default, the whole number with `SLUICE_LONG=1`.

/// True when `SLUICE_LONG` asks for the whole numbers.
pub fn long() -> bool {
    std::env::var("SLUICE_LONG").is_ok_and(|value| !value.is_empty() && value != "0")
}

/// `whole` with `SLUICE_LONG`, else a tenth of it, and at least 1.
pub fn scaled(whole: usize) -> usize {
    if long() { whole } else { (whole / 10).max(1) }
}
