//! Tests the list of zones of the macros. They have a list of their own, so that they do not have
//! to be built after `chrono-tz`.

use chrono_tz::TZ_VARIANTS;

const ZONES: &str = include_str!("../../../orchestrator-macros/src/schedule/zones.txt");

#[test]
fn the_macros_know_all_zones_and_no_others() {
    let mut names = TZ_VARIANTS.map(|zone| zone.name());
    names.sort_unstable();
    let lines: Vec<&str> = ZONES.lines().collect();
    let missing: Vec<_> = names.iter().filter(|name| !lines.contains(name)).collect();
    let unknown: Vec<_> = lines.iter().filter(|line| !names.contains(line)).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "zones.txt lacks {missing:?}, and should not have {unknown:?}"
    );
    assert_eq!(lines, names, "zones.txt is in order, each name once");
}
