//! Proves that a timestamp can be read in every form in which other programs print it by default, and means
//! the same point in each. jiff is the model: it splits a point into its parts, from which the forms are
//! written. Invalid timestamps are among the bad inputs.

use std::time::{Duration, SystemTime};

use datapool_store::{RecordQuery, Timestamp};
use jiff::civil::DateTime;
use jiff::tz::Offset;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{self, time};

const MINUTE: i64 = 60_000_000;

/// Generates points whose local dates have four-digit years with any offset.
fn written_micros() -> impl Strategy<Value = i64> {
    let years_1_to_9998 = -62_135_596_800_000_000..253_370_764_800_000_000_i64;
    prop_oneof![years_1_to_9998, 0..2_000_000_000_000_000_i64]
}

/// Generates hours and minutes east of UTC.
fn offset() -> impl Strategy<Value = (i64, i64)> {
    prop_oneof![Just((0, 0)), (-23..24_i64, Just(0)), (-23..24_i64, 0..60_i64)]
        .prop_map(|(hours, minutes)| (hours, if hours < 0 { -minutes } else { minutes }))
}

/// Returns the local date and time at an offset.
fn local(micros: i64, (hours, minutes): (i64, i64)) -> DateTime {
    let offset = Offset::from_seconds(i32::try_from(hours * 3_600 + minutes * 60).unwrap()).unwrap();
    offset.to_datetime(jiff::Timestamp::from_microsecond(micros).unwrap())
}

/// Returns every way to write an offset, without its sign.
fn written_offsets((hours, minutes): (i64, i64)) -> Vec<String> {
    let (sign, hours, minutes) = (if hours + minutes < 0 { '-' } else { '+' }, hours.abs(), minutes.abs());
    let mut all = vec![format!("{sign}{hours:02}:{minutes:02}"), format!("{sign}{hours:02}{minutes:02}")];
    if minutes == 0 {
        all.push(format!("{sign}{hours:02}"));
    }
    if (hours, minutes) == (0, 0) {
        all.extend(["Z", "z", "", "-00:00", "-0000", "-00"].map(str::to_owned));
    }
    all
}

/// Returns the decimals of a second, as short as possible and longer.
fn written_fractions(micros: i64) -> Vec<String> {
    let six = format!("{micros:06}");
    let shortest = six.trim_end_matches('0');
    let mut all = vec![format!(".{six}"), format!(".{six}0"), format!(".{six}000000000000")];
    all.push(if shortest.is_empty() { String::new() } else { format!(".{shortest}") });
    all
}

proptest! {
    #[test]
    fn every_timestamp_prints_and_parses_to_itself(
        micros in prop_oneof![any::<i64>(), -62_200_000_000_000_000..253_500_000_000_000_000_i64],
    ) {
        let time = Timestamp::from_micros(micros);
        prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
    }

    #[test]
    fn every_form_of_a_point_parses_to_it(micros in written_micros(), offset in offset(), joint in select(&['T', 't', ' '][..])) {
        let shown = local(micros, offset);
        let (date, clock) = (shown.strftime("%Y-%m-%d"), shown.strftime("%H:%M:%S"));
        for fraction in written_fractions(micros.rem_euclid(1_000_000)) {
            for offset in written_offsets(offset) {
                let text = format!("{date}{joint}{clock}{fraction}{offset}");
                prop_assert_eq!(time(&text).as_micros(), micros, "{}", text);
                let decoded = text.replace('+', " ");
                prop_assert_eq!(time(&decoded).as_micros(), micros, "{}", decoded);
                let query: RecordQuery = format!("filter[created_after]={text}").parse().unwrap();
                prop_assert_eq!(query, RecordQuery::new().created_after(Timestamp::from_micros(micros)));
            }
        }
    }

    #[test]
    fn a_time_to_the_minute_is_at_its_beginning(micros in written_micros(), offset in offset()) {
        let micros = micros.div_euclid(MINUTE) * MINUTE;
        let shown = local(micros, offset).strftime("%Y-%m-%d %H:%M");
        for offset in written_offsets(offset) {
            let text = format!("{shown}{offset}");
            prop_assert_eq!(time(&text).as_micros(), micros, "{}", text);
        }
    }

    #[test]
    fn decimals_beyond_microseconds_are_between_two_of_them(micros in written_micros(), more in "[0-9]{0,8}[1-9]") {
        let text = format!("{}{more}Z", Timestamp::from_micros(micros).to_string().trim_end_matches('Z'));
        let (down, up) = (Timestamp::from_micros(micros), Timestamp::from_micros(micros + 1));
        prop_assert_eq!(time(&text), down);
        // Records have whole microseconds. "After" a point between two of them means after the earlier one,
        // and "before" means before the later one.
        let query: RecordQuery = format!("filter[created_after]={text}&filter[created_before]={text}").parse().unwrap();
        prop_assert_eq!(query, RecordQuery::new().created_after(down).created_before(up));
    }

    #[test]
    fn any_text_is_a_timestamp_or_an_error(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]?[-0-9:.+ Zz\u{e9}]{0,20}") {
        if let Ok(time) = text.parse::<Timestamp>() {
            prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
    }
}

#[test]
fn what_programs_print_by_default_parses() {
    for (program, text, printed) in [
        ("Python, datetime.isoformat()", "2013-01-31T10:00:00", "2013-01-31T10:00:00.000000Z"),
        (
            "Python, isoformat() of an aware one",
            "2013-01-31T10:00:00.000250+02:00",
            "2013-01-31T08:00:00.000250Z",
        ),
        ("Python, str(datetime)", "2013-01-31 10:00:00.000250", "2013-01-31T10:00:00.000250Z"),
        (
            "Python, strftime('%Y-%m-%dT%H:%M:%S%z')",
            "2013-01-31T10:00:00+0200",
            "2013-01-31T08:00:00.000000Z",
        ),
        ("Java, Instant", "2013-01-31T10:00:00.123456789Z", "2013-01-31T10:00:00.123456Z"),
        ("Java, OffsetDateTime without seconds", "2013-01-31T10:00+05:30", "2013-01-31T04:30:00.000000Z"),
        ("Java, OffsetDateTime in UTC", "2013-01-31T10:00Z", "2013-01-31T10:00:00.000000Z"),
        ("Java, LocalDateTime without seconds", "2013-01-31T10:00", "2013-01-31T10:00:00.000000Z"),
        ("C#, \"o\" of UTC", "2013-01-31T10:00:00.1234567Z", "2013-01-31T10:00:00.123456Z"),
        ("C#, \"o\" of a DateTimeOffset", "2013-01-31T10:00:00.0000000-08:00", "2013-01-31T18:00:00.000000Z"),
        ("C#, \"o\" without a kind", "2013-01-31T10:00:00.0000000", "2013-01-31T10:00:00.000000Z"),
        ("C#, \"s\"", "2013-01-31T10:00:00", "2013-01-31T10:00:00.000000Z"),
        ("C#, \"u\"", "2013-01-31 10:00:00Z", "2013-01-31T10:00:00.000000Z"),
        ("PHP, DATE_ATOM", "2013-01-31T10:00:00+02:00", "2013-01-31T08:00:00.000000Z"),
        ("PHP, \"Y-m-d H:i:s\"", "2013-01-31 10:00:00", "2013-01-31T10:00:00.000000Z"),
        ("PHP, DATE_ISO8601", "2013-01-31T10:00:00-0330", "2013-01-31T13:30:00.000000Z"),
        ("MySQL, DATETIME(3)", "2013-01-31 10:00:00.250", "2013-01-31T10:00:00.250000Z"),
        ("PostgreSQL, timestamptz", "2013-01-31 10:00:00+00", "2013-01-31T10:00:00.000000Z"),
        ("PostgreSQL, timestamptz in India", "2013-01-31 10:00:00.5+05:30", "2013-01-31T04:30:00.500000Z"),
        ("PostgreSQL, its + decoded", "2013-01-31 10:00:00 02", "2013-01-31T08:00:00.000000Z"),
    ] {
        assert_eq!(time(text).to_string(), printed, "{program}");
    }
}

#[test]
fn the_ends_of_the_range_and_leap_seconds_parse() {
    for (text, printed) in [
        ("1970-01-01", "1970-01-01T00:00:00.000000Z"),
        ("0000-01-01", "0000-01-01T00:00:00.000000Z"),
        ("0000-01-01T00:00:00+00:01", "-62167219260000000us"),
        ("9999-12-31", "9999-12-31T00:00:00.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31T23:59:59-00:01", "253402300859000000us"),
        ("2012-02-29", "2012-02-29T00:00:00.000000Z"),
        ("2013-01-31T10:00:00.000001-23:59", "2013-02-01T09:59:00.000001Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.000000Z"),
        ("2016-12-31T23:59:60.25Z", "2016-12-31T23:59:59.250000Z"),
        ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
    ] {
        assert_eq!(time(text).to_string(), printed, "{text}");
    }
}

proptest! {
    #[test]
    fn sums_and_differences_are_exact_or_stop_at_the_ends(a: i64, b: i64, secs: u64, nanos in 0..1_000_000_000_u32) {
        let (one, other, duration) = (Timestamp::from_micros(a), Timestamp::from_micros(b), Duration::new(secs, nanos));
        let clamped = |micros: i128| Timestamp::from_micros(micros.clamp(i64::MIN.into(), i64::MAX.into()) as i64);
        let micros = i128::try_from(duration.as_micros()).unwrap();
        prop_assert_eq!(one + duration, clamped(i128::from(a) + micros));
        prop_assert_eq!(one - duration, clamped(i128::from(a) - micros));
        let apart = u128::try_from(i128::from(a) - i128::from(b)).unwrap_or(0);
        prop_assert_eq!((one - other).as_micros(), apart);
        let (mut later, mut earlier) = (one, one);
        later += duration;
        earlier -= duration;
        prop_assert_eq!((later, earlier), (one + duration, one - duration));
    }

    #[test]
    fn a_timestamp_shows_its_text_to_programmers(micros: i64) {
        let time = Timestamp::from_micros(micros);
        prop_assert_eq!(format!("{time:?}"), time.to_string());
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the model of the clock")]
fn now_is_what_the_system_shows_and_a_manual_clock_has_its_own_time() {
    let before = Timestamp::from(SystemTime::now());
    let now = Timestamp::now();
    assert!((before..=Timestamp::from(SystemTime::now())).contains(&now));
    assert_eq!(support::clock().now(), support::time("2013-01-01"));
}
