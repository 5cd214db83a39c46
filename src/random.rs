//! Random bytes, from the operating system.

use crate::error::{Error, Result};

/// Returns 16 unpredictable bytes.
pub(crate) fn random_bytes() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::storage(format!("the system gives no random bytes: {error}")))?;
    Ok(bytes)
}
