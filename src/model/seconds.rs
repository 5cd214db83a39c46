//! Durations in JSON: a number of seconds with decimals.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    duration.as_secs_f64().serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    of(f64::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Converts a number of seconds to a duration, rounded to microseconds, the store's unit of time.
pub(super) fn of(seconds: f64) -> Result<Duration, String> {
    let duration =
        Duration::try_from_secs_f64(seconds).map_err(|error| format!("{seconds} seconds: {error}"))?;
    Ok(to_micros(duration))
}

pub(super) fn to_micros(duration: Duration) -> Duration {
    let micros = duration.saturating_add(Duration::from_nanos(500)).as_micros();
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// Writes an optional duration, or null.
#[allow(clippy::ref_option, reason = "serde's signature")]
pub(super) fn serialize_some<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

pub(super) fn deserialize_some<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let seconds = Option::<f64>::deserialize(deserializer)?;
    seconds.map(of).transpose().map_err(D::Error::custom)
}
