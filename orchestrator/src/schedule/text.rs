//! Schedules in words.

use std::fmt;

use chrono::DateTime;
use chrono_tz::Tz;

use super::Schedule;
use super::exceptions::Exceptions;
use super::rule::Rule;
use super::span::text;
use crate::duration;

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = Some(self.zone()).filter(|zone| *zone != Tz::UTC);
        self.write(f, zone)
    }
}

impl Schedule {
    /// Writes it with this time zone.
    fn write(&self, f: &mut fmt::Formatter<'_>, zone: Option<Tz>) -> fmt::Result {
        let timing = &self.timing;
        f.write_str(&self.name())?;
        if let Rule::Every { anchor, .. } = timing.rule
            && anchor != DateTime::UNIX_EPOCH
        {
            write!(f, " anchored at {}", text(anchor))?;
        }
        if let Some(zone) = zone {
            write!(f, " in {zone}")?;
        }
        if let Some(start) = timing.start {
            write!(f, " from {}", text(start))?;
        }
        if let Some(end) = timing.end {
            write!(f, " until {}", text(end))?;
        }
        if let Some(exceptions) = timing.exceptions() {
            write!(f, " except {}", ExceptionsText(exceptions))?;
        }
        match timing.times() {
            Some(1) => f.write_str(", 1 time")?,
            Some(times) => write!(f, ", {times} times")?,
            None => {}
        }
        if !self.jitter.is_zero() {
            write!(f, " with up to {} jitter", duration::text(self.jitter))?;
        }
        Ok(())
    }
}

struct ExceptionsText<'a>(&'a Exceptions);

impl fmt::Display for ExceptionsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (first, last) in self.0.days.iter() {
            write!(f, "{separator}{first}")?;
            if last != first {
                write!(f, " to {last}")?;
            }
            separator = ", ";
        }
        for excepted in &self.0.schedules {
            write!(f, "{separator}when ")?;
            let zone = (!excepted.follows_zone).then(|| excepted.schedule.zone());
            excepted.schedule.write(f, zone)?;
            f.write_str(" fires")?;
            separator = ", ";
        }
        Ok(())
    }
}
