//! Binary search in a range of numbers.

use std::convert::Infallible;
use std::ops::Range;

/// Returns the first number of a range for which `is_true` holds, or the range's end if there is none. If it
/// holds for a number, it must hold for all later ones.
pub(crate) fn first_that(range: Range<u64>, mut is_true: impl FnMut(u64) -> bool) -> u64 {
    let Ok(first) = try_first_that::<Infallible>(range, |number| Ok(is_true(number)));
    first
}

/// Like [`first_that`], for a test that can fail.
pub(crate) fn try_first_that<E>(
    Range { start: mut low, end: mut high }: Range<u64>,
    mut is_true: impl FnMut(u64) -> Result<bool, E>,
) -> Result<u64, E> {
    while low < high {
        let middle = low + (high - low) / 2;
        if is_true(middle)? { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_finds_what_looking_at_each_finds(start in 0_u64..50, len in 0_u64..50, from in 0_u64..120) {
            let range = start..start + len;
            let expected = range.clone().find(|number| *number >= from).unwrap_or(range.end);
            prop_assert_eq!(first_that(range, |number| number >= from), expected);
        }
    }
}
