//! What the business makes of a probability.

use std::fmt;

/// How likely a customer is to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Low,
    Medium,
    High,
    Critical,
}

impl Segment {
    /// All of them, from the safest on.
    pub(crate) const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The segment of a churn probability.
    pub(crate) fn of(churn_probability: f64) -> Self {
        match churn_probability {
            p if p < 0.2 => Self::Low,
            p if p < 0.5 => Self::Medium,
            p if p < 0.8 => Self::High,
            _ => Self::Critical,
        }
    }

    /// The probabilities that it holds, for people.
    pub(crate) fn bounds(self) -> &'static str {
        match self {
            Self::Low => "below 0.2",
            Self::Medium => "0.2 to 0.5",
            Self::High => "0.5 to 0.8",
            Self::Critical => "0.8 and above",
        }
    }

    /// Its name, as files and the warehouse have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Segment::{self, Critical, High, Low, Medium};

    #[test]
    fn a_segment_begins_with_its_bound() {
        let cases = [
            (0.0, Low),
            (0.199_999, Low),
            (0.2, Medium),
            (0.499_999, Medium),
            (0.5, High),
            (0.799_999, High),
            (0.8, Critical),
            (1.0, Critical),
        ];
        for (probability, segment) in cases {
            assert_eq!(Segment::of(probability), segment, "{probability}");
        }
    }
}
