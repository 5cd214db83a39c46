//! Timestamps and the clock.
//!
//! Owns: [`Timestamp`], [`ManualClock`], and the only place that reads the system's clock. Always holds: a
//! pool's time never runs backwards within a process. jiff is used for text, and is part of the public API
//! only with the feature `jiff`.

use std::fmt;
use std::ops::{Add, AddAssign, Range, Sub, SubAssign};
use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicI64, Ordering};

/// A point in time: microseconds since 1970-01-01T00:00:00Z, UTC.
///
/// Prints as RFC 3339 with six decimals and `Z`. Parses what Python, Java, C#, PHP, MySQL and PostgreSQL
/// print by default, and no other form:
///
/// | part | forms |
/// | --- | --- |
/// | date | `2013-01-31` |
/// | date and time | the date, then `T`, `t` or a space, then `10:00`, `10:00:00` or `10:00:00.5` (any number of decimals) |
/// | offset, after a time | `Z`, `z`, `+02:00`, `+0200`, `+02`; UTC without one. A space may stand for `+`, because query strings decode `+` to a space |
///
/// A leap second (`:60`) is read as the second before it, and a point between two microseconds as the earlier
/// one. Points outside the years 0 to 9999 have none of these forms. They print and parse as microseconds
/// (`9223372036854775807us`).
///
/// ```
/// use datapool_store::Timestamp;
///
/// let time: Timestamp = "2013-01-01T02:00:00+02:00".parse()?;
/// assert_eq!(time.to_string(), "2013-01-01T00:00:00.000000Z");
/// for text in ["2013-01-01", "2013-01-01T00:00", "2013-01-01 00:00:00", "2013-01-01 00:00:00.000+00"] {
///     assert_eq!(time, text.parse()?);
/// }
/// # Ok::<(), datapool_store::Error>(())
/// ```
///
/// A [`Duration`] can be added to a point or subtracted from it, and two points can be subtracted. None of
/// this overflows or panics: results saturate at the ends of the range, and the time from a later point to an
/// earlier one is zero, as with [`Instant`].
///
/// ```
/// use std::time::Duration;
/// use datapool_store::{RecordFilter, Timestamp};
///
/// let start: Timestamp = "2013-01-01".parse()?;
/// let end = start + Duration::from_secs(90);
/// assert_eq!((end - start, start - end), (Duration::from_secs(90), Duration::ZERO));
///
/// let of_the_last_hour = RecordFilter::new().created_after(Timestamp::now() - Duration::from_secs(3_600));
/// # Ok::<(), datapool_store::Error>(())
/// ```
///
/// Converts to and from [`SystemTime`] and, with the feature `jiff`, [`jiff::Timestamp`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Returns the time of the system's clock. A store with a [`ManualClock`] uses that clock instead:
    /// [`ManualClock::now`].
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Creates the point that is this many microseconds after 1970-01-01T00:00:00Z, or before it if the
    /// number is negative.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since 1970-01-01T00:00:00Z.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns this point moved earlier, or the earliest point if that overflows.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(micros_in(duration)))
    }

    /// Returns this point moved earlier, or `None` if that overflows.
    pub(crate) fn checked_sub(self, duration: Duration) -> Option<Self> {
        self.0.checked_sub(i64::try_from(duration.as_micros()).ok()?).map(Self)
    }

    /// Returns the time from another point to this one; zero if this one is earlier.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        if self < earlier { Duration::ZERO } else { Duration::from_micros(self.0.abs_diff(earlier.0)) }
    }

    /// Returns this point moved later, or the latest point if that overflows.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(micros_in(duration)))
    }
}

/// Returns the whole microseconds of a duration. A duration that does not fit moves any point past the end of
/// the range.
fn micros_in(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Moves the point later, at most to the latest point.
    fn add(self, duration: Duration) -> Self {
        self.saturating_add(duration)
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    /// Moves the point earlier, at most to the earliest point.
    fn sub(self, duration: Duration) -> Self {
        self.saturating_sub(duration)
    }
}

impl SubAssign<Duration> for Timestamp {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    /// Returns the time from the other point to this one; zero if the other one is later.
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

#[cfg(feature = "jiff")]
impl From<jiff::Timestamp> for Timestamp {
    /// Rounds down to microseconds.
    fn from(time: jiff::Timestamp) -> Self {
        // At most the year 9999: some 2.5 * 10^17 microseconds.
        Self(i64::try_from(time.as_nanosecond().div_euclid(1_000)).unwrap_or(i64::MAX))
    }
}

#[cfg(feature = "jiff")]
impl TryFrom<Timestamp> for jiff::Timestamp {
    type Error = Error;

    /// # Errors
    ///
    /// `InvalidArgument` for a point outside the range of jiff's timestamps, about the years -9999 to 9999.
    /// The range ends 26 hours before the end of the year 9999.
    fn try_from(time: Timestamp) -> Result<Self> {
        Self::from_microsecond(time.0).map_err(|error| {
            Error::invalid_argument(format!("{time} is out of range for jiff: {error}")).with_source(error)
        })
    }
}

impl From<SystemTime> for Timestamp {
    /// Rounds down to microseconds. A time that is out of range becomes the nearest point in range.
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

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// The years 0 to 9999, in microseconds. They are written with four digits.
const WRITTEN: Range<i64> = -62_167_219_200_000_000..253_402_300_800_000_000;

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match EPOCH.checked_add(SignedDuration::from_micros(self.0)) {
            Ok(time) if WRITTEN.contains(&self.0) => write!(f, "{time:.6}Z"),
            _ => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    /// Prints the same text as [`Display`](fmt::Display).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text, Rounding::Down)
    }
}

/// The direction in which a point between two microseconds is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    Down,
    Up,
}

impl Timestamp {
    /// Like [`from_str`](Self::from_str), with a direction of rounding.
    pub(crate) fn parse(text: &str, rounding: Rounding) -> Result<Self> {
        parse(text, rounding).ok_or_else(|| {
            Error::invalid_argument(format!(
                "{text:?} is not a timestamp; allowed are a date (2013-01-31), or a date and a time (2013-01-31T10:00, \
                 2013-01-31 10:00:00.5), with an offset (Z, +02:00, +0200, +02) or without (UTC)"
            ))
        })
    }
}

/// Reads the documented forms and no others. This code checks the shape; jiff checks the date.
fn parse(text: &str, rounding: Rounding) -> Option<Timestamp> {
    if let Some(micros) = text.strip_suffix("us") {
        let time = Timestamp(micros.parse().ok()?);
        // Each point has only one form: one that can be written as a date is not read as microseconds.
        return (time.to_string() == text).then_some(time);
    }
    let (date, rest) = split_shape(text, "0000-00-00")?;
    let date: Date = date.parse().ok()?;
    if rest.is_empty() {
        return micros_of(date.at(0, 0, 0, 0)).map(Timestamp);
    }
    let (clock, fraction, offset) = split_time(rest.strip_prefix(['T', 't', ' '])?)?;
    let seconds = micros_of(date.to_datetime(clock.parse().ok()?))?;
    Some(Timestamp(seconds + fraction_micros(fraction, rounding)? - offset_micros(offset)?))
}

/// Splits a text into three parts: a time to the minute or second, its fraction with the decimal point, and
/// its offset. The last two may be empty.
fn split_time(text: &str) -> Option<(&str, &str, &str)> {
    let Some((clock, rest)) = split_shape(text, "00:00:00") else {
        let (clock, offset) = split_shape(text, "00:00")?;
        return Some((clock, "", offset));
    };
    let Some(decimals) = rest.strip_prefix('.') else { return Some((clock, "", rest)) };
    let digits = decimals.bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, offset) = rest.split_at_checked(1 + digits)?;
    Some((clock, fraction, offset))
}

/// Splits a text after a prefix of this shape.
fn split_shape<'a>(text: &'a str, shape: &str) -> Option<(&'a str, &'a str)> {
    text.split_at_checked(shape.len()).filter(|(start, _)| has_shape(start, shape))
}

/// Returns true if a text has digits where the shape has zeros, and equals the shape elsewhere.
fn has_shape(text: &str, shape: &str) -> bool {
    let alike = |(byte, shape): (u8, u8)| if shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(alike)
}

fn micros_of(civil: DateTime) -> Option<i64> {
    i64::try_from(civil.duration_since(EPOCH).as_micros()).ok()
}

/// Returns the microseconds of `.123456789`; 0 without a fraction.
fn fraction_micros(text: &str, rounding: Rounding) -> Option<i64> {
    let Some(digits) = text.strip_prefix('.') else { return Some(0) };
    let whole: String = digits.chars().chain("00000".chars()).take(6).collect();
    let is_between = digits.bytes().skip(6).any(|digit| digit != b'0');
    let up = i64::from(is_between && rounding == Rounding::Up);
    (!digits.is_empty()).then_some(whole.parse::<i64>().ok()? + up)
}

/// Returns an offset from UTC in microseconds. Accepts a space instead of `+`, because query strings decode
/// `+` to a space.
fn offset_micros(text: &str) -> Option<i64> {
    if ["", "Z", "z"].contains(&text) {
        return Some(0);
    }
    let (sign, clock) = text.split_at_checked(1)?;
    if !["00:00", "0000", "00"].iter().any(|shape| has_shape(clock, shape)) {
        return None;
    }
    let (hours, minutes) = clock.split_at_checked(2)?;
    let minutes = minutes.trim_start_matches(':');
    let minutes: i64 = if minutes.is_empty() { 0 } else { minutes.parse().ok()? };
    let hours: i64 = hours.parse().ok()?;
    let micros = (hours < 24 && minutes < 60).then_some((hours * 60 + minutes) * 60_000_000)?;
    match sign {
        "+" | " " => Some(micros),
        "-" => Some(-micros),
        _ => None,
    }
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

/// Deserializes a point between two microseconds as the later one.
pub(crate) fn deserialize_rounded_up<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let time = text.map(|text| Timestamp::parse(&text, Rounding::Up)).transpose();
    time.map_err(serde::de::Error::custom)
}

/// A clock that a test or a benchmark sets by hand. Clones are the same clock.
///
/// [`advance`](Self::advance) lets time pass. [`set`](Self::set) sets the clock, as when a system's clock is
/// corrected. Leases of claims expire as time passes; setting the clock does not affect them. Everything else
/// uses the time that the clock shows.
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

struct Hands {
    shown: AtomicI64,
    /// The microseconds that have passed since the clock was created.
    passed: AtomicI64,
    /// The callbacks that are called when time has passed.
    watchers: Mutex<Vec<Watcher>>,
}

type Watcher = Weak<dyn Fn() + Send + Sync>;

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hands").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl ManualClock {
    /// Creates a clock that shows `time`.
    pub fn starting_at(time: Timestamp) -> Self {
        let (shown, passed) = (AtomicI64::new(time.0), AtomicI64::new(0));
        Self(Arc::new(Hands { shown, passed, watchers: Mutex::default() }))
    }

    /// Sets the clock forwards or backwards, without letting time pass.
    pub fn set(&self, time: Timestamp) {
        self.0.shown.store(time.0, Ordering::SeqCst);
    }

    /// Lets time pass: the clock moves forwards, and leases expire.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        for hand in [&self.0.passed, &self.0.shown] {
            // This cannot fail, because the function always returns a value.
            let _ =
                hand.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |at| Some(at.saturating_add(micros)));
        }
        let mut watchers = self.0.watchers.lock();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        let alive: Vec<_> = watchers.iter().filter_map(Weak::upgrade).collect();
        drop(watchers);
        for watcher in alive {
            watcher();
        }
    }

    /// Returns the time that the clock shows.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.shown.load(Ordering::SeqCst))
    }

    fn moment(&self) -> Moment {
        Moment(self.0.passed.load(Ordering::SeqCst))
    }
}

/// A point on the monotonic clock: microseconds since the store's clock was created. It means nothing in
/// another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl Moment {
    pub(crate) const FAR_PAST: Self = Self(i64::MIN);
    pub(crate) const NEVER: Self = Self(i64::MAX);
    /// The moment when the store's clock was created.
    #[cfg(test)]
    pub(crate) const START: Self = Self(0);

    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    pub(crate) fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// The times of both clocks, read once per operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) time: Timestamp,
    pub(crate) moment: Moment,
}

/// The latest time that this process has used for a pool. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct LatestTime(Arc<AtomicI64>);

impl Default for LatestTime {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MIN)))
    }
}

impl LatestTime {
    pub(crate) fn get(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    /// Advances to `time` unless that is earlier, and returns the latest time.
    pub(crate) fn reach(&self, time: Timestamp) -> Timestamp {
        let before = self.0.fetch_max(time.0, Ordering::SeqCst);
        Timestamp(before.max(time.0))
    }
}

/// A store's clock: the system's or a manual one. It may be set back; see [`LatestTime`].
#[derive(Debug)]
pub(crate) struct Clock {
    manual: Option<ManualClock>,
    made: Instant,
}

impl Clock {
    pub(crate) fn new(manual: Option<ManualClock>) -> Self {
        Self { manual, made: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.manual.as_ref().map_or_else(Timestamp::now, ManualClock::now)
    }

    pub(crate) fn read(&self) -> Reading {
        Reading { time: self.now(), moment: self.moment() }
    }

    /// Registers a callback for a manual clock to call when time has passed.
    pub(crate) fn watch(&self, watcher: &Arc<dyn Fn() + Send + Sync>) {
        if let Some(clock) = &self.manual {
            clock.0.watchers.lock().push(Arc::downgrade(watcher));
        }
    }

    /// Returns the time left until a moment, or `None` for a manual clock, whose watchers are called when
    /// time has passed.
    pub(crate) fn left_until(&self, moment: Moment) -> Option<Duration> {
        let left = moment.0.saturating_sub(self.moment().0).max(0);
        self.manual.is_none().then(|| Duration::from_micros(left.unsigned_abs()))
    }

    /// Returns the time of the monotonic clock. It is independent of changes to the system's clock.
    pub(crate) fn moment(&self) -> Moment {
        match &self.manual {
            Some(clock) => clock.moment(),
            None => Moment(i64::try_from(self.made.elapsed().as_micros()).unwrap_or(i64::MAX)),
        }
    }
}
