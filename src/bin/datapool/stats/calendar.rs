//! Days, and the weeks, months and years into which a chart sums them.

use std::collections::BTreeMap;

use datapool_store::Timestamp;
use serde::{Serialize, Serializer};

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
/// The most bars of a chart: enough for the days of a month.
const BARS_MAX: i64 = 31;
/// The day before the first Monday after 1970-01-01, a Thursday, has this number; weeks begin on Monday.
const DAYS_BEFORE_MONDAY: i64 = 3;

/// The number of records that were created on a day, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Day {
    /// The number of the day, counted from 1970-01-01.
    #[serde(rename = "day", serialize_with = "as_date")]
    pub(super) number: i64,
    pub(super) records: u64,
}

/// Returns the day of a time.
pub(super) fn day_of(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(DAY_MICROS)
}

/// Returns the last microsecond of a day.
pub(super) fn end_of(day: i64) -> Timestamp {
    Timestamp::from_micros(day.saturating_mul(DAY_MICROS).saturating_add(DAY_MICROS - 1))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_date<S: Serializer>(day: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&date(*day))
}

/// Formats a day: `2013-01-31`. A day outside the years 0 to 9999 is shown as its first moment in microseconds.
fn date(day: i64) -> String {
    let text = Timestamp::from_micros(day.saturating_mul(DAY_MICROS)).to_string();
    match text.get(..10) {
        Some(date) if text.ends_with('Z') => date.to_owned(),
        _ => text,
    }
}

/// The span of time that one bar shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Day,
    Week,
    Month,
    Year,
}

impl Scale {
    /// Returns the finest scale at which the days fit on a chart, or `None` if there are no days.
    pub(super) fn of(days: &[Day]) -> Option<Self> {
        let (first, last) = (days.first()?.number, days.last()?.number);
        let fits = |scale: &Self| scale.number(last) - scale.number(first) < BARS_MAX;
        [Self::Day, Self::Week, Self::Month].into_iter().find(fits).or(Some(Self::Year))
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Day => "Records per day (UTC)",
            Self::Week => "Records per week (UTC, from Monday)",
            Self::Month => "Records per month (UTC)",
            Self::Year => "Records per year (UTC)",
        }
    }

    /// Returns the label and the records of each bar from the first day to the last, at most the newest 31.
    pub(super) fn bars(self, days: &[Day]) -> Vec<(String, u64)> {
        let mut sums: BTreeMap<i64, u64> = BTreeMap::new();
        for day in days {
            *sums.entry(self.number(day.number)).or_default() += day.records;
        }
        let (Some((&first, _)), Some((&last, _))) = (sums.first_key_value(), sums.last_key_value()) else {
            return Vec::new();
        };
        let first = first.max(last - (BARS_MAX - 1));
        (first..=last).map(|number| (self.label(number), sums.get(&number).copied().unwrap_or(0))).collect()
    }

    /// Returns the number of the day, week, month or year of a day.
    fn number(self, day: i64) -> i64 {
        match self {
            Self::Day => day,
            Self::Week => (day + DAYS_BEFORE_MONDAY).div_euclid(7),
            Self::Month => {
                let (year, month) = year_and_month(day);
                year * 12 + month - 1
            }
            Self::Year => year_and_month(day).0,
        }
    }

    fn label(self, number: i64) -> String {
        match self {
            Self::Day => date(number),
            Self::Week => date(number * 7 - DAYS_BEFORE_MONDAY),
            Self::Month => format!("{:04}-{:02}", number.div_euclid(12), number.rem_euclid(12) + 1),
            Self::Year => format!("{number:04}"),
        }
    }
}

/// Returns the year and month of a day's date. A day without a date counts as after the year 9999, or before the year 0.
fn year_and_month(day: i64) -> (i64, i64) {
    let date = date(day);
    let read = |range: std::ops::Range<usize>| date.get(range)?.parse::<i64>().ok();
    match (date.len(), read(0..4), read(5..7)) {
        (10, Some(year), Some(month)) => (year, month),
        _ if day < 0 => (-1, 12),
        _ => (10_000, 1),
    }
}

#[cfg(test)]
mod tests {
    //! Proves which days, weeks, months and years a chart has.

    use super::*;

    fn day(date: &str, records: u64) -> Day {
        Day { number: day_of(date.parse().unwrap()), records }
    }

    fn bars(days: &[Day]) -> (Scale, Vec<(String, u64)>) {
        let scale = Scale::of(days).unwrap();
        (scale, scale.bars(days))
    }

    fn bar(label: &str, records: u64) -> (String, u64) {
        (label.to_owned(), records)
    }

    #[test]
    fn a_day_ends_with_its_last_microsecond() {
        let number = day_of("2013-01-31T23:59:59.999999Z".parse().unwrap());
        assert_eq!(date(number), "2013-01-31");
        assert_eq!(end_of(number).to_string(), "2013-01-31T23:59:59.999999Z");
        assert_eq!(day_of("2013-02-01".parse().unwrap()), number + 1);
        assert_eq!(date(day_of("1969-12-31T23:00:00Z".parse().unwrap())), "1969-12-31");
    }

    #[test]
    fn a_month_has_a_bar_a_day_and_those_without_records_too() {
        let (scale, shown) = bars(&[day("2013-01-01", 3), day("2013-01-03", 4)]);
        assert_eq!(scale, Scale::Day);
        assert_eq!(shown, [bar("2013-01-01", 3), bar("2013-01-02", 0), bar("2013-01-03", 4)]);
        assert_eq!(bars(&[day("2013-01-01", 1), day("2013-01-31", 1)]).1.len(), 31);
    }

    #[test]
    fn longer_spans_have_coarser_bars() {
        // 2013-01-28 is a Monday.
        let (scale, shown) = bars(&[day("2013-01-01", 1), day("2013-02-03", 2), day("2013-02-04", 4)]);
        assert_eq!((scale, shown.len()), (Scale::Week, 6));
        assert_eq!(shown.first(), Some(&bar("2012-12-31", 1)));
        assert_eq!(shown.last_chunk(), Some(&[bar("2013-01-28", 2), bar("2013-02-04", 4)]));

        let (scale, shown) = bars(&[day("2012-12-31", 1), day("2013-01-01", 2), day("2013-12-31", 4)]);
        assert_eq!((scale, shown.len()), (Scale::Month, 13));
        assert_eq!(shown.first_chunk(), Some(&[bar("2012-12", 1), bar("2013-01", 2), bar("2013-02", 0)]));

        let (scale, shown) = bars(&[day("1970-01-01", 1), day("2012-12-31", 2), day("2026-01-01", 4)]);
        assert_eq!((scale, shown.len()), (Scale::Year, 31));
        assert_eq!((shown.first(), shown.last()), (Some(&bar("1996", 0)), Some(&bar("2026", 4))));
    }

    #[test]
    fn days_without_a_date_have_a_place_too() {
        let far = Day { number: day_of(Timestamp::from_micros(i64::MAX)), records: 1 };
        let (scale, shown) = bars(&[day("2013-01-01", 2), far]);
        assert_eq!((scale, shown.len()), (Scale::Year, 31));
        assert_eq!(end_of(far.number), Timestamp::from_micros(i64::MAX));
    }
}
