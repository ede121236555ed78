//! The BG/NBD model: how likely it is that a customer will never buy again.
//!
//! Fader, Hardie and Lee, "Counting Your Customers" the Easy Way, Marketing Science 24 (2005).
//! While alive, a customer buys at random times at a rate of their own (gamma over the customers:
//! `r`, `alpha`); after each repeat purchase they leave for good with a probability of their own
//! (beta: `a`, `b`). Time is in weeks.

use super::History;

/// The four parameters of the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct BgNbd {
    r: f64,
    alpha: f64,
    a: f64,
    b: f64,
}

/// The parameters that the paper publishes for this very sample.
pub(super) const CDNOW: BgNbd = BgNbd {
    r: 0.243,
    alpha: 4.414,
    a: 0.793,
    b: 2.426,
};

impl BgNbd {
    /// The probability that the customer has left: `1 - P(alive)`.
    pub(super) fn churn_probability(&self, history: &History) -> f64 {
        1.0 - self.probability_alive(history)
    }

    /// `P(alive)`. A customer without a repeat purchase has had no occasion to leave: 1.
    fn probability_alive(&self, history: &History) -> f64 {
        if history.repeat_days == 0 {
            return 1.0;
        }
        let x = f64::from(history.repeat_days);
        let silence =
            (self.alpha + history.observed_weeks) / (self.alpha + history.last_purchase_week);
        1.0 / (1.0 + self.a / (self.b + x - 1.0) * silence.powf(self.r + x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(repeat_days: u32, last_purchase_week: f64, observed_weeks: f64) -> f64 {
        CDNOW.probability_alive(&History {
            customer_id: 1,
            repeat_days,
            last_purchase_week,
            observed_weeks,
        })
    }

    #[test]
    fn the_papers_first_customer_is_alive_with_0_7266() {
        assert_eq!(format!("{:.4}", alive(2, 30.43, 38.86)), "0.7266");
    }

    #[test]
    fn without_a_repeat_purchase_nobody_has_left() {
        assert_eq!(alive(0, 0.0, 70.0), 1.0);
    }

    #[test]
    fn silence_lowers_the_odds_and_weighs_more_for_those_who_bought_often() {
        assert!(alive(3, 10.0, 12.0) > alive(3, 10.0, 40.0));
        assert!(alive(2, 10.0, 40.0) > alive(12, 10.0, 40.0));
        assert!(alive(30, 10.0, 78.0) >= 0.0);
    }
}
