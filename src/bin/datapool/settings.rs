//! A pool's retention and capacity as arguments: `90d`, `none`.

use std::time::Duration;

/// The new value of an optional field of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting<T> {
    /// Removes the value.
    Clear,
    /// Sets the value.
    To(T),
}

impl<T> Setting<T> {
    /// Returns the value that is set, or `None` if it is removed.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Clear => None,
            Self::To(value) => Some(value),
        }
    }
}

const NONE: &str = "none";

/// The units of a duration and their milliseconds, longest first.
const UNITS: [(&str, u64); 5] =
    [("d", 24 * 60 * 60 * 1_000), ("h", 60 * 60 * 1_000), ("m", 60 * 1_000), ("s", 1_000), ("ms", 1)];

/// Reads a whole number and its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or(("", text));
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let millis = unit.and_then(|(_, millis)| number.parse::<u64>().ok()?.checked_mul(*millis));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| "allowed are durations like 90d, 12h, 30m, 45s and 500ms".to_owned())
}

/// Reads a duration, or `none`.
pub(crate) fn duration_or_none(text: &str) -> Result<Setting<Duration>, String> {
    if text == NONE {
        return Ok(Setting::Clear);
    }
    duration(text).map(Setting::To).map_err(|allowed| format!("{allowed}, and none"))
}

/// Reads a number of records.
pub(crate) fn capacity(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("{error}; allowed are whole numbers from 1"))
}

/// Reads a number of records, or `none`.
pub(crate) fn capacity_or_none(text: &str) -> Result<Setting<u64>, String> {
    if text == NONE {
        return Ok(Setting::Clear);
    }
    capacity(text).map(Setting::To).map_err(|allowed| format!("{allowed}, and none"))
}

/// Formats a duration in the longest unit that divides it.
pub(crate) fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    let whole = UNITS.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(u128::from(*unit)));
    match whole {
        Some((name, unit)) if duration.subsec_nanos().is_multiple_of(1_000_000) => {
            format!("{}{name}", millis / u128::from(*unit))
        }
        _ => format!("{duration:?}"),
    }
}

#[cfg(test)]
mod tests {
    //! Proves that durations are read and written in the documented forms.

    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        assert_eq!(duration("90d"), Ok(Duration::from_hours(90 * 24)));
        assert_eq!(duration("12h"), Ok(Duration::from_hours(12)));
        assert_eq!(duration("30m"), Ok(Duration::from_mins(30)));
        assert_eq!(duration("45s"), Ok(Duration::from_secs(45)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in [
            "",
            "90",
            "d",
            "-1d",
            "+1d",
            "1.5h",
            "90 d",
            "90D",
            "1w",
            "99999999999999999999d",
            "18446744073709551615d",
            "1ä",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["90d", "25h", "61m", "1s", "1500ms"] {
            assert_eq!(shown(duration(text).unwrap()), text);
        }
        assert_eq!(shown(Duration::from_hours(48)), "2d");
        assert_eq!(shown(Duration::from_micros(1_500)), "1.5ms");
    }

    #[test]
    fn none_clears() {
        assert_eq!(duration_or_none("none"), Ok(Setting::Clear));
        assert_eq!(capacity_or_none("none"), Ok(Setting::Clear));
        assert_eq!(capacity_or_none("7"), Ok(Setting::To(7)));
        assert!(capacity_or_none("many").unwrap_err().contains("none"));
    }
}
