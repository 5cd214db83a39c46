//! Durations in JSON, a number of seconds with decimals, and the check of their range.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::error::{Error, Result};

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    duration.as_secs_f64().serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Duration, D::Error> {
    of(f64::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Converts a number of seconds to a duration, rounded to microseconds, the store's unit of time.
pub(super) fn of(seconds: f64) -> std::result::Result<Duration, String> {
    let duration =
        Duration::try_from_secs_f64(seconds).map_err(|error| format!("{seconds} seconds: {error}"))?;
    Ok(to_micros(duration))
}

/// Rounds to microseconds. A duration of more microseconds than a `u64` holds, which no setting allows, is
/// left as it is, so that the message about it shows it.
pub(super) fn to_micros(duration: Duration) -> Duration {
    let micros = duration.saturating_add(Duration::from_nanos(500)).as_micros();
    u64::try_from(micros).map_or(duration, Duration::from_micros)
}

/// Checks the range of a setting, which the message calls by its name. `limits` are the names of the
/// constants.
pub(super) fn check_range(
    name: &'static str,
    duration: Duration,
    allowed: RangeInclusive<Duration>,
    limits: &str,
) -> Result<()> {
    if allowed.contains(&duration) {
        return Ok(());
    }
    let (min, max) = (allowed.start().as_millis(), allowed.end().as_secs() / (24 * 60 * 60));
    let text =
        format!("a {name} of {duration:?} is out of range; allowed are {min} ms to {max} days ({limits})");
    Err(Error::limit_exceeded(text).with_parameter(name))
}

/// Writes an optional duration, or null.
#[allow(clippy::ref_option, reason = "serde's signature")]
pub(super) fn serialize_some<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

pub(super) fn deserialize_some<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Duration>, D::Error> {
    let seconds = Option::<f64>::deserialize(deserializer)?;
    seconds.map(of).transpose().map_err(D::Error::custom)
}
