//! Numbers as people read them.

use std::error::Error;
use std::iter;
use std::time::Duration;

/// `6919` → `6,919`.
pub fn count(n: impl Into<u64>) -> String {
    let digits = n.into().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `123450` → `$1,234.50`.
pub fn dollars(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let cents = cents.unsigned_abs();
    format!("{sign}${}.{:02}", count(cents / 100), cents % 100)
}

/// In the unit that leaves two or three digits: `0.4 ms`, `34 ms`, `1.2 s`, `5 min`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 0.001_95 => format!("{:.1} ms", s * 1_000.0),
        s if s < 0.999_5 => format!("{:.0} ms", s * 1_000.0),
        s if s < 99.5 => format!("{s:.1} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}

/// `1 row`, `2 rows`, `1,000 rows`.
pub fn plural(n: impl Into<u64>, one: &str, many: &str) -> String {
    let n = n.into();
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// An error and its causes: `cannot open …: not a database`.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in iter::successors(error.source(), |error| (*error).source()) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0_u32, 999, 1_000, 6_919, 1_234_567].map(count),
            ["0", "999", "1,000", "6,919", "1,234,567"]
        );
        assert_eq!(
            [0, 5, 123_450, -250].map(dollars),
            ["$0.00", "$0.05", "$1,234.50", "-$2.50"]
        );
        assert_eq!(
            [(1_u32, "1 row"), (0, "0 rows")].map(|(n, text)| plural(n, "row", "rows") == text),
            [true, true]
        );
    }

    #[test]
    fn durations_have_a_fitting_unit() {
        let text = |micros| duration(Duration::from_micros(micros));
        assert_eq!(
            [400, 1_960, 34_200, 999_600, 1_240_000, 300_000_000].map(text),
            ["0.4 ms", "2 ms", "34 ms", "1.0 s", "1.2 s", "5 min"]
        );
    }
}
