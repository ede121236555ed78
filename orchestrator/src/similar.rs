//! What was probably meant by a word that is not known. (The macros compile this file, too.)

/// So many letters of a word are looked at.
const LONGEST: usize = 64;

/// The known word that is nearest to what was written, where one is near: where a third of its letters is wrong at most,
/// or what was written is its beginning.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().filter_map(|known| {
        let length = word.chars().count().max(known.chars().count()).min(LONGEST);
        let distance = distance(word, known);
        // of a word that is another altogether nothing is left
        let is_cut = word.chars().count() >= 3 && known.starts_with(word);
        ((is_cut || distance <= (length / 3).max(1)) && distance < length)
            .then_some((distance, known))
    });
    near.min().map(|(_, known)| known)
}

/// How many letters are to be changed, added, removed or swapped with the next one. Long words are compared by their
/// beginnings.
pub(crate) fn distance(one: &str, other: &str) -> usize {
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
}
