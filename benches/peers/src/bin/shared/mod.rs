//! The values that the programs write, and the memory that they use.

use std::{fs, io};

/// A permutation of the numbers (the finalizer of splitmix64), so that the values have a random order.
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

pub(crate) fn value(number: u64) -> String {
    format!("order-{:016x}", mix(number))
}

/// Returns the most memory that this process has used.
pub(crate) fn memory() -> io::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    Ok(line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
}
