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
        let (stepped, rest) = match step {
            Some(step) if starred => {
                let rest = set & !every(field.low(), last, step);
                (Some(format!("*/{step}")), rest)
            }
            _ => (None, set),
        };
        let plain = (rest != 0).then(|| list(rest));
        let mut terms: Vec<String> = stepped.into_iter().chain(plain).collect();
        match field {
            CronField::DayOfMonth => terms.extend(self.special.dates().map(|day| day.to_string())),
            CronField::DayOfWeek => {
                terms.extend(self.special.weekdays().map(|day| day.to_string()))
            }
            CronField::Second | CronField::Minute | CronField::Hour | CronField::Month => (),
        }
        terms.join(",")
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
            ("0 0 l * *", "0 0 L * *"),
            ("0 0 L,15 * *", "0 0 15,L * *"),
            ("0 0 15w,lw,L-03,1 * *", "0 0 1,L-3,LW,15W * *"),
            ("0 0 */2,L * 1", "0 0 */2,L * 1"),
            ("0 0 * * 5#2", "0 0 * * 5#2"),
            ("0 0 * * fri#2,FriL", "0 0 * * 5#2,5L"),
            ("0 0 * * 7#1,SUNL", "0 0 * * 0#1,0L"),
            ("0 0 * * MON,5L", "0 0 * * 1,5L"),
            ("0 0 * * 1#1,5L,1#5", "0 0 * * 1#1,1#5,5L"),
            ("0 0 * * */3,1L", "0 0 * * */3,1L"),
            ("0 0 15,L * 1#1", "0 0 15,L * 1#1"),
            // Days that none of the months has.
            ("0 0 30W,15 2 *", "0 0 15 2 *"),
            ("0 0 30W 2 1L", "0 0 * 2 1L"),
            ("0 0 L-29 2 FRI#1", "0 0 * 2 5#1"),
            // Days that are all days.
            ("0 0 1-28,L,L-1 2 *", "0 0 * 2 *"),
            ("0 0 *,L * *,5L", "0 0 * * *"),
            ("0 0 1-30,L * 1#1", "0 0 * * *"),
            ("0 0 15 * 0-5,6#1,6#2,6#3,6#4,6L", "0 0 * * *"),
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
