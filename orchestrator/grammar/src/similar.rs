//! Suggestions for unknown words.

/// The maximum number of letters that are compared.
const LONGEST: usize = 64;

/// Returns the known word that is nearest to the written one, if one is [`near`].
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(word, known).into_iter().next()
}

/// Returns the known words that are near to the written one, the nearest first: those that differ
/// in at most a third of the letters, or that begin with the written word.
pub fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let near = known.into_iter().filter_map(|known| {
        let length = word.chars().count().max(known.chars().count()).min(LONGEST);
        let distance = distance(word, known);
        // an entirely different word does not count
        let is_cut = word.chars().count() >= 3 && known.starts_with(word);
        ((is_cut || distance <= (length / 3).max(1)) && distance < length)
            .then_some((distance, known))
    });
    let mut near: Vec<_> = near.collect();
    near.sort_unstable();
    near.into_iter().map(|(_, known)| known).collect()
}

/// Returns the number of letters to change, add, remove or swap with the next one. Long words are
/// compared by their beginnings.
pub fn distance(one: &str, other: &str) -> usize {
    let letters = |word: &str| word.chars().take(LONGEST).collect::<Vec<char>>();
    let (one, other) = (letters(one), letters(other));
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_meant_where_it_is_near() {
        let known = ["retries", "retry_delay", "etl_daily", "report", "SUN", "a"];
        for (word, expected) in [
            ("retrys", Some("retries")),
            ("rertydelay", Some("retry_delay")),
            ("etl_dayly", Some("etl_daily")),
            ("SUM", Some("SUN")),
            ("etl", Some("etl_daily")),
            ("MON", None),
            ("b", None),
            ("", None),
            ("something else", None),
            (&*"x".repeat(200), None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    #[test]
    fn the_nearest_word_comes_first() {
        let known = ["retry_delay", "timeout", "retry_if", "retries"];
        assert_eq!(near("retr", known), ["retries", "retry_if", "retry_delay"]);
        assert!(near("colour", known).is_empty());
    }
}
