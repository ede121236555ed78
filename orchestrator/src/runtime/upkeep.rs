//! Inspection and maintenance: runs by a part of their ids, cached results, the store as a whole.

use std::time::Duration;

use super::Runtime;
use crate::clock::saturating_micros;
use crate::error::{Error, StoreError};
use crate::executor::Host;
use crate::id::RunId;
use crate::store::{CacheEntry, CacheFilter, Pruned, StoreCheck};

impl Runtime {
    /// Returns the ids of all runs that begin or end with `part`, a sequence of hexadecimal digits
    /// with or without hyphens, in the order in which the runs were created. Returns no ids if
    /// `part` is not part of an id.
    ///
    /// Ids begin with the time: runs created at about the same time share a long prefix and differ
    /// at the end, which is the part that the console shows. To search for an end, the store scans
    /// all ids.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn run_ids(&self, part: &str) -> Result<Vec<RunId>, Error> {
        let Some((first, last)) = bounds(part) else {
            return Ok(Vec::new());
        };
        let mut ids = self.host.services.store.find_ids(first, last).await?;
        ids.extend(
            self.host
                .services
                .store
                .find_ids_ending(&part.replace('-', ""))
                .await?,
        );
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Returns the cached results that match a filter, without their values, ordered by task and
    /// then by age, the oldest first.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn cached(&self, filter: &CacheFilter) -> Result<Vec<CacheEntry>, Error> {
        Ok(self
            .host
            .services
            .store
            .list_cached(filter, self.host.services.clock.timestamp())
            .await?)
    }

    /// Deletes the cached results that match a filter, so that they are computed anew, and returns
    /// their number.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn forget_cached(&self, filter: &CacheFilter) -> Result<u64, Error> {
        Ok(self
            .host
            .services
            .store
            .forget_cached(filter, self.host.services.clock.timestamp())
            .await?)
    }

    /// Checks the integrity of the store and counts its contents. Reads every page of the file, and
    /// every run's record of its tasks.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails. Damage within the store is reported in the result
    /// instead.
    pub async fn check_store(&self) -> Result<StoreCheck, Error> {
        match self.host.services.store.check_store().await {
            Err(StoreError::Damaged { place, problem }) => Ok(StoreCheck::damaged(place, problem)),
            check => Ok(check?),
        }
    }

    /// [Prunes](Self::prune) the store with another retention of task data.
    pub(crate) async fn prune_older(&self, keep: Duration) -> Result<Pruned, Error> {
        let now = self.host.services.clock.timestamp();
        let before = now.shifted(-saturating_micros(keep));
        Ok(self
            .host
            .services
            .store
            .prune_store(before, now, self.host.retention.cache_bytes)
            .await?)
    }
}

impl Host {
    /// Returns the number of slots of a pool, or `None` if there is no pool of this name.
    pub(crate) fn pool_size(&self, pool: &str) -> Option<u32> {
        self.admission.limits.pool_size(pool)
    }

    /// Returns `true` if this process executes the run.
    pub(crate) fn executes(&self, run: RunId) -> bool {
        self.active.of(run).is_some()
    }
}

/// Returns the first and the last id that begin with a prefix.
fn bounds(prefix: &str) -> Option<(RunId, RunId)> {
    let digits: Vec<u8> = prefix
        .chars()
        .filter(|character| *character != '-')
        .map(|character| {
            character
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect::<Option<_>>()?;
    if digits.is_empty() || digits.len() > 32 {
        return None;
    }
    let with = |rest: u8| {
        let mut bytes = [rest << 4 | rest; 16];
        for (at, digit) in digits.iter().enumerate() {
            let byte = &mut bytes[at / 2];
            *byte = if at % 2 == 0 {
                digit << 4 | *byte & 0xf
            } else {
                *byte & 0xf0 | digit
            };
        }
        RunId::from_bytes(bytes)
    };
    Some((with(0), with(0xf)))
}

#[cfg(test)]
mod tests {
    use super::bounds;

    #[test]
    fn the_beginning_of_an_id_has_bounds() {
        for (prefix, expected) in [
            (
                "0",
                Some((
                    "00000000-0000-0000-0000-000000000000",
                    "0fffffff-ffff-ffff-ffff-ffffffffffff",
                )),
            ),
            (
                "01936F5e-8",
                Some((
                    "01936f5e-8000-0000-0000-000000000000",
                    "01936f5e-8fff-ffff-ffff-ffffffffffff",
                )),
            ),
            (
                "01936f5e-8c00-7000-8000-000000000000",
                Some((
                    "01936f5e-8c00-7000-8000-000000000000",
                    "01936f5e-8c00-7000-8000-000000000000",
                )),
            ),
            ("", None),
            ("latest", None),
            ("01936f5e-8c00-7000-8000-0000000000000", None),
        ] {
            let found = bounds(prefix).map(|(first, last)| (first.to_string(), last.to_string()));
            let expected = expected.map(|(first, last)| (first.to_owned(), last.to_owned()));
            assert_eq!(found, expected, "{prefix}");
        }
    }
}
