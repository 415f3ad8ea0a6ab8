//! What is kept: old events go in small steps, each a transaction of its own, so that neither the
//! chain nor another program waits for long.

use std::time::{Duration, Instant};

use rusqlite::{TransactionBehavior, params};
use whalewatch_core::Timestamp;

use crate::fault::Fault;
use crate::limits::{PAGE, logged};
use crate::store::Store;

/// Pages given back to the file system in one step.
const VACUUM_STEP: u64 = 256;

/// How long making room may take before what waits is looked at again.
const ROOM_TIME: Duration = Duration::from_millis(100);

/// How long upkeep may take at once.
const UPKEEP_TIME: Duration = Duration::from_millis(50);

/// Deleted events after which containers without any are looked for.
const SWEEP_AFTER: u64 = 1_000;

impl Store {
    /// Deletes the oldest events until so many bytes more have room.
    pub(crate) fn make_room(&mut self, need: u64) -> Result<(), Fault> {
        let limit = self.limits.database();
        if limit == u64::MAX {
            return Ok(());
        }
        let (until, step) = (Instant::now() + ROOM_TIME, self.limits.step());
        loop {
            let (pages, free) = self.pages()?;
            if (pages - free) * PAGE + need <= limit {
                return Ok(());
            }
            if Instant::now() >= until {
                // A database that is far too large gets smaller in time; until then free pages are
                // used again.
                return if free * PAGE >= 2 * need { Ok(()) } else { Err(Fault::MakingRoom) };
            }
            if self.delete_oldest(i64::MAX, step)? == 0 {
                return Err(Fault::TooLarge);
            }
        }
    }

    /// What is to be done from time to time: events that are too old go, and free pages are given
    /// back. Takes little time at once.
    pub(crate) fn upkeep(&mut self) -> Result<(), Fault> {
        let (until, step) = (Instant::now() + UPKEEP_TIME, self.limits.step());
        while Instant::now() < until && self.expire(step)? == step {}
        while Instant::now() < until && self.shrink()? {}
        if self.deleted >= SWEEP_AFTER || self.swept > 0 {
            self.sweep()?;
        }
        Ok(())
    }

    /// Deletes up to so many events that are too old; says how many went.
    pub(crate) fn expire(&mut self, most: usize) -> Result<usize, Fault> {
        if self.keep == 0 {
            return Ok(0);
        }
        let now = i64::try_from(Timestamp::now().as_nanos()).unwrap_or(i64::MAX);
        self.delete_oldest(now.saturating_sub(self.keep), most)
    }

    /// Deletes up to so many events from before a time, the oldest first; says how many went.
    fn delete_oldest(&mut self, before: i64, most: usize) -> Result<usize, Fault> {
        const OLDEST: &str = "SELECT id FROM events WHERE time < ?1 ORDER BY time LIMIT ?2";
        // Whether there is anything to do is found out without a lock.
        let most = most.min(self.limits.step());
        let any = self.connection.prepare_cached(OLDEST)?.exists(params![before, 1])?;
        if !any {
            return Ok(0);
        }
        self.bound_log(logged(most, 0))?;
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut oldest = transaction.prepare_cached(OLDEST)?;
        let ids = oldest.query_map(params![before, most as i64], |row| row.get::<_, i64>(0))?;
        let ids: Vec<i64> = ids.collect::<rusqlite::Result<_>>()?;
        let mut event = transaction.prepare_cached("DELETE FROM events WHERE id = ?1")?;
        let mut body = transaction.prepare_cached("DELETE FROM bodies WHERE event = ?1")?;
        for id in &ids {
            event.execute([id])?;
            body.execute([id])?;
        }
        drop((oldest, event, body));
        transaction.commit()?;
        self.deleted += ids.len() as u64;
        Ok(ids.len())
    }

    /// One step of making the file smaller, if it is too large or a good part of it is free; says
    /// whether it was.
    fn shrink(&mut self) -> Result<bool, Fault> {
        let (pages, free) = self.pages()?;
        let (limit, step) = (self.limits.database(), self.limits.step());
        if (pages - free).saturating_mul(PAGE) > limit && self.delete_oldest(i64::MAX, step)? > 0 {
            return Ok(true);
        }
        // Some free pages are what the next events go to.
        let spare = if pages * PAGE > limit { 0 } else { VACUUM_STEP + pages / 16 };
        if free <= spare {
            return Ok(false);
        }
        // Each page that is given back moves another.
        let step = VACUUM_STEP.min(self.limits.log / 8 / PAGE);
        self.bound_log(2 * step * PAGE)?;
        let sql = format!("PRAGMA incremental_vacuum({step})");
        self.connection.execute_batch(&sql)?;
        Ok(true)
    }

    /// One step through the containers: those of which no event is left go.
    fn sweep(&mut self) -> Result<(), Fault> {
        let step = self.limits.step();
        self.bound_log(logged(step, 0))?;
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut next = transaction
            .prepare_cached("SELECT key FROM containers WHERE key > ?1 ORDER BY key LIMIT ?2")?;
        let keys = next.query_map(params![self.swept, step as i64], |row| row.get(0))?;
        let keys: Vec<i64> = keys.collect::<rusqlite::Result<_>>()?;
        let mut container = transaction.prepare_cached(
            "DELETE FROM containers WHERE key = ?1
             AND NOT EXISTS (SELECT 1 FROM events WHERE container = ?1)
             AND NOT EXISTS (SELECT 1 FROM events WHERE target_container = ?1)",
        )?;
        let mut labels = transaction.prepare_cached("DELETE FROM labels WHERE container = ?1")?;
        let mut gone = false;
        for key in &keys {
            if container.execute([key])? > 0 {
                labels.execute([key])?;
                gone = true;
            }
        }
        drop((next, container, labels));
        transaction.commit()?;
        if gone {
            self.keys.forget();
        }
        if self.swept == 0 {
            self.deleted = 0;
        }
        // From the first again once all were looked at.
        self.swept = keys.last().copied().filter(|_| keys.len() == step).unwrap_or(0);
        Ok(())
    }
}
