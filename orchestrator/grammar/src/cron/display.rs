//! The notation of an expression.

use core::fmt;

use super::field::{FIELDS, every};
use super::{Cron, CronField};

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({self})")
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = match self.values(CronField::Second) {
            1 => &FIELDS[1..],
            _ => &FIELDS[..],
        };
        let written: Vec<String> = fields.iter().map(|field| self.written(*field)).collect();
        f.pad(&written.join(" "))
    }
}

impl Cron {
    fn written(&self, field: CronField) -> String {
        let set = self.values(field);
        let starred = self.stars & field.star() != 0;
        if set == field.full() && starred {
            return "*".to_owned();
        }
        let last = match field {
            CronField::DayOfMonth => self.longest_month(),
            other => other.last(),
        };
        let step = (2..=field.high() + 1).find(|step| every(field.low(), last, *step) & !set == 0);
        match step {
            Some(step) if starred => {
                let rest = set & !every(field.low(), last, step);
                let comma = if rest == 0 { "" } else { "," };
                format!("*/{step}{comma}{}", list(rest))
            }
            _ => list(set),
        }
    }
}

/// Formats a set as a list of values and ranges, or as one range with a step.
pub(super) fn list(set: u64) -> String {
    let values: Vec<u32> = (0..64).filter(|value| set & (1 << value) != 0).collect();
    if let [first, second, .., last] = values[..]
        && second - first > 1
        && values.len() > 2
        && set == every(first, last, second - first)
    {
        return format!("{first}-{last}/{}", second - first);
    }
    let runs = values.chunk_by(|value, next| next - value == 1);
    let runs = runs.flat_map(|run| match *run {
        [first, _, .., last] if run.len() > 2 => vec![format!("{first}-{last}")],
        _ => run.iter().map(u32::to_string).collect(),
    });
    runs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use crate::cron::Cron;

    #[test]
    fn an_expression_has_a_normal_form() {
        for (text, normal) in [
            ("0 6 * * *", "0 6 * * *"),
            ("  5\t4 *  * *\n", "5 4 * * *"),
            ("*/15 9-17 * * MON-FRI", "*/15 9-17 * * 1-5"),
            ("0 9-17/2 * jan,Jul,DEC *", "0 9-17/2 * 1,7,12 *"),
            ("1/20 * * * *", "1-41/20 * * * *"),
            ("30/40 * * * *", "30 * * * *"),
            ("05 007 * * *", "5 7 * * *"),
            ("*/90 * * * *", "*/60 * * * *"),
            ("*,5 *,7 * * *", "* * * * *"),
            ("*/20,5 * * * *", "*/20,5 * * * *"),
            ("0-59 * * * *", "0-59 * * * *"),
            ("0 0 * * 7", "0 0 * * 0"),
            ("0 0 * * 0-7", "0 0 * * *"),
            ("0 0 * * 5-7", "0 0 * * 0,5,6"),
            ("0 0 * * FRI-SUN", "0 0 * * 0,5,6"),
            ("0 0 * * SAT-SUN", "0 0 * * 0,6"),
            ("0 0 * * sun-tue", "0 0 * * 0-2"),
            ("0 0 * * 1/2", "0 0 * * 0,1,3,5"),
            ("0 0 * * */2", "0 0 * * */2"),
            ("0 0 13 * 5", "0 0 13 * 5"),
            ("0 0 */2 * 1", "0 0 */2 * 1"),
            ("0 0 1-31 * 1", "0 0 * * *"),
            ("0 0 1-29 2 *", "0 0 * 2 *"),
            ("0 0 30 2 1", "0 0 * 2 1"),
            ("0 0 29 2 *", "0 0 29 2 *"),
            ("0 0 * */3 *", "0 0 * */3 *"),
            ("0 0 6 * * *", "0 6 * * *"),
            ("*/10 0 6 * * *", "*/10 0 6 * * *"),
            ("* * * * * *", "* * * * * *"),
            ("@Daily", "0 0 * * *"),
            ("@midnight", "0 0 * * *"),
            ("@hourly", "0 * * * *"),
            ("@weekly", "0 0 * * 0"),
            ("@monthly", "0 0 1 * *"),
            ("@yearly", "0 0 1 1 *"),
            ("@annually", "0 0 1 1 *"),
        ] {
            let cron = Cron::parse(text).unwrap();
            assert_eq!(cron.to_string(), normal, "{text}");
            assert_eq!(Cron::parse(normal), Ok(cron), "{text}");
        }
    }
}
