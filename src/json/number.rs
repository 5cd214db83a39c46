//! The text that stands for a JSON number.

use std::borrow::Cow;

use crate::limits::VALUE_MAX_BYTES;

/// Returns a JSON number without exponent and redundant zeros: `17` for `17`, `17.0` and `1.7e1`; `0.5` for
/// `5E-1`; `0` for `-0.0`. It is exact for numbers of any size: nothing is rounded. Returns `None` if the
/// text is longer than a value may be.
///
/// This form must never change, because it is stored and compared.
pub(super) fn canonical(number: &str) -> Option<Cow<'_, str>> {
    let unsigned = number.strip_prefix('-');
    let (sign, unsigned) = unsigned.map_or(("", number), |unsigned| ("-", unsigned));
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) && unsigned != "0" {
        return (number.len() <= VALUE_MAX_BYTES).then_some(Cow::Borrowed(number));
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = format!("{whole}{fraction}");
    let digits = all_digits.trim_start_matches('0');
    let leading_zeros = all_digits.len() - digits.len();
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Some(Cow::Borrowed("0"));
    }
    // The decimal point is before the first digit, moved right by this many digits.
    let moved = i64::try_from(whole.len()).ok()? - i64::try_from(leading_zeros).ok()?;
    let point = exponent.parse::<i64>().ok()?.checked_add(moved)?;
    let distance = usize::try_from(point.unsigned_abs()).ok()?;
    // Check the length before writing that many zeros.
    if digits.len().max(distance) > VALUE_MAX_BYTES {
        return None;
    }
    let text = match digits.split_at_checked(distance) {
        _ if point <= 0 => format!("{sign}0.{digits:0>width$}", width = digits.len() + distance),
        None | Some((_, "")) => format!("{sign}{digits:0<distance$}"),
        Some((whole, fraction)) => format!("{sign}{whole}.{fraction}"),
    };
    (text.len() <= VALUE_MAX_BYTES).then_some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    //! Tests the texts of numbers, which must never change.

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_has_one_text_however_it_is_written() {
        for (number, expected) in [
            ("17", "17"),
            ("-17", "-17"),
            ("17.0", "17"),
            ("1.7e1", "17"),
            ("0.17E+2", "17"),
            ("1700e-2", "17"),
            ("0", "0"),
            ("-0", "0"),
            ("0.000", "0"),
            ("-0e99999999999999999999", "0"),
            ("0.1", "0.1"),
            ("-0.10", "-0.1"),
            ("1e-3", "0.001"),
            ("12.345e1", "123.45"),
            ("12.345e-4", "0.0012345"),
            ("100", "100"),
            ("1e2", "100"),
            ("100.5", "100.5"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("123456789012345678901234567890.10", "123456789012345678901234567890.1"),
            ("9007199254740993", "9007199254740993"),
            ("18446744073709551616", "18446744073709551616"),
        ] {
            assert_eq!(canonical(number).as_deref(), Some(expected), "{number}");
        }
    }

    #[test]
    fn a_number_that_is_longer_than_a_value_has_no_text() {
        let longest = "1".repeat(VALUE_MAX_BYTES);
        assert_eq!(canonical(&longest).as_deref(), Some(longest.as_str()));
        assert_eq!(canonical("1e4095").map(|text| text.len()), Some(VALUE_MAX_BYTES));
        assert_eq!(canonical("1e-4094").map(|text| text.len()), Some(VALUE_MAX_BYTES));
        let zeros = "0".repeat(100_000);
        assert_eq!(canonical(&format!("1{zeros}e-100000")).as_deref(), Some("1"));
        assert_eq!(canonical(&format!("0.{zeros}1e100001")).as_deref(), Some("1"));
        for number in [
            format!("{longest}1"),
            format!("-{longest}"),
            format!("{longest}.5"),
            format!("1.{longest}"),
            "1e4096".to_owned(),
            "-1e4095".to_owned(),
            "1e-4095".to_owned(),
            "1e9223372036854775807".to_owned(),
            "1.5e-9223372036854775808".to_owned(),
            "1e99999999999999999999".to_owned(),
        ] {
            assert_eq!(canonical(&number), None, "{number}");
        }
    }

    proptest! {
        #[test]
        fn moving_the_point_and_adding_zeros_changes_nothing(number: i64, places in 0_usize..30, zeros in 0_usize..5) {
            let sign = if number < 0 { "-" } else { "" };
            let digits = format!("{:0>width$}", number.unsigned_abs(), width = places + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            let point = if fraction.is_empty() && zeros == 0 { "" } else { "." };
            let written = format!("{sign}{whole}{point}{fraction}{}e{places}", "0".repeat(zeros));
            prop_assert_eq!(canonical(&written).unwrap(), number.to_string(), "{}", written);
        }
    }
}
