//! Time zones by their IANA names.

use crate::attribute::names::nearest;
use orchestrator_grammar::similar::distance;

/// The names of `chrono-tz`, sorted. A test of the library checks that the list is exact.
const ZONES: &str = include_str!("zones.txt");

/// Returns the reason why a text is not the name of a time zone.
pub(crate) fn fault(text: &str) -> Option<String> {
    if ZONES.lines().any(|zone| zone == text) {
        return None;
    }
    let remedy = match meant(text) {
        Some(zone) => format!("; did you mean `{zone}`?"),
        None => ": write for example `Europe/Zurich`, or `UTC`".to_owned(),
    };
    Some(format!(
        "expected `timezone` to be the IANA name of a time zone, got `\"{text}\"`{remedy}"
    ))
}

/// Returns the zone whose last part, usually a city, is nearest to the text. If several regions
/// have it, prefers the given one.
fn meant(text: &str) -> Option<&'static str> {
    if let Some(zone) = ZONES.lines().find(|zone| zone.eq_ignore_ascii_case(text)) {
        return Some(zone);
    }
    let last = |zone: &str| plain(zone.rsplit('/').next().unwrap_or(zone));
    let word = last(text);
    let cities: Vec<String> = ZONES.lines().map(last).collect();
    // A shorter text is an abbreviation: `PST` does not mean `EST`, though it differs in one
    // letter.
    let known = cities
        .iter()
        .map(String::as_str)
        .filter(|city| word.len() > 4 || *city == word);
    let city = nearest(&word, known)?;
    let zones = ZONES
        .lines()
        .zip(&cities)
        .filter(|(_, candidate)| *candidate == city)
        .map(|(zone, _)| zone);
    zones.min_by_key(|zone| distance(text, zone))
}

/// Normalizes a name: removes differences that do not matter.
fn plain(name: &str) -> String {
    name.to_lowercase().replace([' ', '-'], "_")
}

#[cfg(test)]
mod tests {
    use super::{ZONES, fault};

    #[test]
    fn a_zone_has_one_name() {
        assert!(ZONES.lines().all(|zone| fault(zone).is_none()));
        for (text, meant) in [
            ("europe/zurich", "Europe/Zurich"),
            ("Europe/Zürich", "Europe/Zurich"),
            ("Zurich", "Europe/Zurich"),
            ("Europ/Istanbul", "Europe/Istanbul"),
            ("New York", "America/New_York"),
            ("America/Port-au-Princ", "America/Port-au-Prince"),
            ("utc", "UTC"),
            ("gmt-2", "Etc/GMT-2"),
        ] {
            let fault = fault(text).expect(text);
            assert!(
                fault.ends_with(&format!("did you mean `{meant}`?")),
                "{text}: {fault}"
            );
        }
        for text in ["", "PST", "+02:00", "Europe/Switzerland"] {
            let fault = fault(text).expect(text);
            assert!(
                fault.ends_with("write for example `Europe/Zurich`, or `UTC`"),
                "{text}: {fault}"
            );
        }
    }
}
