//! Timestamps and the clock.
//!
//! Owns: [`Timestamp`], [`ManualClock`], and the only place that reads the system's clock. Always holds: a
//! store's clock never runs backwards within a process. jiff is used for text only and never shows.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A point in time: microseconds since 1970-01-01T00:00:00Z, UTC.
///
/// Prints as RFC 3339 with six decimals and `Z`. Parses RFC 3339, `YYYY-MM-DD HH:MM:SS` and `YYYY-MM-DD` (the
/// latter two UTC); a space where an offset's `+` belongs, as a decoded query string has it, is accepted. Points
/// outside the years 0 to 9999, which have no such form, print and parse as microseconds (`9223372036854775807us`).
///
/// ```
/// use datapool_store::Timestamp;
///
/// let time: Timestamp = "2013-01-01T02:00:00+02:00".parse()?;
/// assert_eq!(time.to_string(), "2013-01-01T00:00:00.000000Z");
/// assert_eq!(time, "2013-01-01".parse()?);
/// # Ok::<(), datapool_store::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The point that many microseconds after 1970-01-01T00:00:00Z (before it, if negative).
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// This point moved earlier; the far end of the range if that overflows.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This point moved earlier; none if that overflows.
    pub(crate) fn checked_sub(self, duration: Duration) -> Option<Self> {
        self.0.checked_sub(i64::try_from(duration.as_micros()).ok()?).map(Self)
    }

    /// How much later this point is than another one; zero if it is earlier.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        u64::try_from(self.0.saturating_sub(earlier.0)).map_or(Duration::ZERO, Duration::from_micros)
    }

    /// This point moved later; the far end of the range if that overflows.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl From<SystemTime> for Timestamp {
    /// Rounded down to microseconds; times out of range become the nearest end of it.
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => {
                let micros = before.duration().as_nanos().div_ceil(1_000);
                Self(i64::try_from(micros).map_or(i64::MIN, |micros| -micros))
            }
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_micros(time.0.unsigned_abs());
        let moved =
            if time.0 < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
        moved.unwrap_or(UNIX_EPOCH)
    }
}

/// 0000-01-01T00:00:00Z: earlier years are not written in four digits.
const YEAR_ZERO: i64 = -62_167_219_200_000_000;

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) if self.0 >= YEAR_ZERO => write!(f, "{time:.6}"),
            _ => write!(f, "{}us", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            Error::invalid_argument(format!(
                "{text:?} is not a timestamp; allowed are RFC 3339 (2013-01-31T10:00:00Z), \
                 YYYY-MM-DD HH:MM:SS and YYYY-MM-DD"
            ))
        })
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    if let Some(micros) = text.strip_suffix("us") {
        let time = Timestamp(micros.parse().ok()?);
        // Each point has one form: what can be written as a date is.
        return (time.to_string() == text).then_some(time);
    }
    // jiff reads more than the three documented forms (week dates, time-zone annotations): hold it to them.
    let plain = |c: char| c.is_ascii_digit() || "-+:.TtZz ".contains(c);
    if text.len() < 10 || !text.chars().all(plain) {
        return None;
    }
    if text.len() == 10 {
        let date: jiff::civil::Date = text.parse().ok()?;
        return utc(date.at(0, 0, 0, 0));
    }
    let plus = restore_plus(text);
    let text = plus.as_deref().unwrap_or(text);
    let time = text.get(11..)?;
    if !time.is_ascii() || !text.get(10..11).is_some_and(|c| "Tt ".contains(c)) {
        return None;
    }
    if time.contains(['Z', 'z', '+', '-']) {
        let instant: jiff::Timestamp = text.parse().ok()?;
        return Some(Timestamp(instant.as_microsecond()));
    }
    let civil: jiff::civil::DateTime = if time.len() >= 8 { text.parse().ok()? } else { return None };
    utc(civil)
}

/// `2013-01-01T00:00:00 02:00`, as a query string's `+` decodes, with its `+` back.
fn restore_plus(text: &str) -> Option<String> {
    let time = text.get(11..)?;
    let (clock, offset) = time.rsplit_once(' ')?;
    (clock.len() >= 8 && offset.len() >= 2)
        .then(|| format!("{}{clock}+{offset}", text.get(..11).unwrap_or("")))
}

fn utc(civil: jiff::civil::DateTime) -> Option<Timestamp> {
    let instant = jiff::tz::Offset::UTC.to_timestamp(civil).ok()?;
    Some(Timestamp(instant.as_microsecond()))
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A clock that a test or a benchmark sets by hand. Clones share the same hands.
///
/// Two things can happen to it: time passes ([`advance`](Self::advance)), or somebody sets it
/// ([`set`](Self::set)), as when a system's clock is corrected. Leases of claims run out by the time that passes, and
/// are not touched when the clock is set; everything else goes by what the clock shows.
///
/// ```
/// use std::time::Duration;
/// use datapool_store::{ManualClock, StoreOptions, Timestamp};
///
/// # fn main() -> datapool_store::Result<()> {
/// let clock = ManualClock::starting_at("2013-01-01".parse()?);
/// let store = StoreOptions::new().clock(clock.clone()).open_in_memory()?;
/// clock.advance(Duration::from_secs(60));
/// let pool = store.get_or_create_pool("orders")?;
/// assert_eq!(pool.info()?.created_at, "2013-01-01 00:01:00".parse::<Timestamp>()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug)]
struct Hands {
    shown: AtomicI64,
    /// Microseconds that passed since the clock was made.
    passed: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `time`.
    pub fn starting_at(time: Timestamp) -> Self {
        Self(Arc::new(Hands { shown: AtomicI64::new(time.0), passed: AtomicI64::new(0) }))
    }

    /// Sets the clock, forwards or backwards. No time passes.
    pub fn set(&self, time: Timestamp) {
        self.0.shown.store(time.0, Ordering::SeqCst);
    }

    /// Lets time pass: the clock moves forwards, and leases run on.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        for hand in [&self.0.passed, &self.0.shown] {
            // It always succeeds: the function always gives a value.
            let _ =
                hand.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |at| Some(at.saturating_add(micros)));
        }
    }

    /// What the clock shows.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.shown.load(Ordering::SeqCst))
    }

    fn moment(&self) -> Moment {
        Moment(self.0.passed.load(Ordering::SeqCst))
    }
}

/// A point of the monotonic clock: microseconds since the store's clock was made. It means nothing to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl Moment {
    /// When the store's clock was made.
    #[cfg(test)]
    pub(crate) const START: Self = Self(0);

    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    pub(crate) fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// Both clocks, read once for an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) time: Timestamp,
    pub(crate) moment: Moment,
}

/// A store's clock: the system's or a manual one, and never earlier than it has answered before.
#[derive(Debug)]
pub(crate) struct Clock {
    manual: Option<ManualClock>,
    latest: AtomicI64,
    made: Instant,
}

impl Clock {
    pub(crate) fn new(manual: Option<ManualClock>) -> Self {
        Self { manual, latest: AtomicI64::new(i64::MIN), made: Instant::now() }
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub(crate) fn now(&self) -> Timestamp {
        let shown = match &self.manual {
            Some(clock) => clock.now(),
            None => SystemTime::now().into(),
        };
        let before = self.latest.fetch_max(shown.0, Ordering::SeqCst);
        Timestamp(before.max(shown.0))
    }

    pub(crate) fn read(&self) -> Reading {
        Reading { time: self.now(), moment: self.moment() }
    }

    /// The monotonic clock: it runs while the process does, whatever the system's clock is set to.
    pub(crate) fn moment(&self) -> Moment {
        match &self.manual {
            Some(clock) => clock.moment(),
            None => Moment(i64::try_from(self.made.elapsed().as_micros()).unwrap_or(i64::MAX)),
        }
    }
}
