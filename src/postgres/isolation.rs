//! The statements that begin transactions: what they see, and how their statements are planned.

/// A client that is silent for longer loses its locks. The server also counts the time in which the client decides, and in which it
/// sends: a minute is enough for the largest call over 10 Mbit/s.
pub(super) const BEGIN: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '1min'";

/// The best plan of a listing depends on the values in its filter.
pub(super) const BEGIN_READING: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan";

/// Plans the statements of this transaction with their parameters. Of a list in a parameter, the server knows neither the length
/// nor a faster way than to compare each row with each element, unless it plans with the list.
pub(super) const PLAN_WITH_VALUES: &str = "SET LOCAL plan_cache_mode = force_custom_plan";

/// The length of lists from which statements are planned with them.
pub(super) const LONG_LIST: usize = 64;
