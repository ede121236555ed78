//! The CDNOW sample: 6,919 real purchases, compiled into the examples so that they need no download
//! and no path.
//!
//! Where it is from, its licence and its columns: `data/cdnow/README.md`.

use chrono::NaiveDate;

const SAMPLE: &str = include_str!("../data/cdnow/CDNOW_sample.txt");

/// One line of the sample: what a customer bought on a day. A customer may have several lines for
/// one day, even equal ones: they are separate orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// The customer's number in the sample, from 1.
    pub customer: u32,
    /// The customer's number in the full data set.
    pub full_set_customer: u32,
    pub day: NaiveDate,
    pub cds: u32,
    /// What was paid, in cents of a US dollar. 0 occurs: free samples.
    pub cents: i64,
}

/// A line that is no purchase.
#[derive(Debug, thiserror::Error)]
#[error(
    "line {line} of the CDNOW sample: expected `id id YYYYMMDD cds dollars`, got `{text}`; \
     restore data/cdnow/CDNOW_sample.txt"
)]
pub struct CdnowError {
    line: usize,
    text: String,
}

/// All purchases, by customer and then by day, as the file has them.
///
/// # Errors
/// If a line is not a purchase: the file was changed.
pub fn purchases() -> Result<Vec<Purchase>, CdnowError> {
    SAMPLE
        .lines()
        .enumerate()
        .map(|(index, text)| {
            parse(text).ok_or_else(|| CdnowError {
                line: index + 1,
                text: text.to_owned(),
            })
        })
        .collect()
}

fn parse(line: &str) -> Option<Purchase> {
    let mut columns = line.split_whitespace();
    let purchase = Purchase {
        full_set_customer: columns.next()?.parse().ok()?,
        customer: columns.next()?.parse().ok()?,
        day: NaiveDate::parse_from_str(columns.next()?, "%Y%m%d").ok()?,
        cds: columns.next()?.parse().ok()?,
        cents: cents(columns.next()?)?,
    };
    columns.next().is_none().then_some(purchase)
}

/// `29.33` → 2933, without a detour over floating point.
fn cents(dollars: &str) -> Option<i64> {
    let (whole, fraction) = dollars.split_once('.')?;
    if fraction.len() != 2 {
        return None;
    }
    Some(whole.parse::<i64>().ok()? * 100 + fraction.parse::<i64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_sample_has_the_published_size() {
        let purchases = purchases().unwrap();
        assert_eq!(purchases.len(), 6_919);
        assert_eq!(
            purchases
                .iter()
                .map(|p| p.customer)
                .collect::<HashSet<_>>()
                .len(),
            2_357
        );
        assert_eq!(
            purchases.iter().map(|p| p.day).min(),
            NaiveDate::from_ymd_opt(1997, 1, 1)
        );
        assert_eq!(
            purchases.iter().map(|p| p.day).max(),
            NaiveDate::from_ymd_opt(1998, 6, 30)
        );
    }

    #[test]
    fn a_line_is_read_exactly_or_not_at_all() {
        let day = NaiveDate::from_ymd_opt(1997, 1, 18).unwrap();
        assert_eq!(
            parse(" 00004 0001 19970118  2   29.73"),
            Some(Purchase {
                customer: 1,
                full_set_customer: 4,
                day,
                cds: 2,
                cents: 2_973
            })
        );
        for bad in [
            "",
            "00004 0001 19970118 2",
            "00004 0001 19970230 2 1.00",
            "4 1 19970118 2 1.5",
            "4 1 19970118 2 1.50 7",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
