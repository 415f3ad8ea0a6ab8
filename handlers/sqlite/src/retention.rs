//! Retention: deletes old events in small transactions, so that neither the chain nor another
//! program waits for long.

use std::time::{Duration, Instant};

use rusqlite::{TransactionBehavior, params};
use whalewatch_core::Timestamp;

use crate::fault::Fault;
use crate::limits::{PAGE, logged};
use crate::store::Store;

/// Pages returned to the file system in one step.
const VACUUM_STEP: u64 = 256;

/// How long making room may take before the handler continues with other work.
const ROOM_TIME: Duration = Duration::from_millis(100);

/// How long one round of upkeep may take.
const UPKEEP_TIME: Duration = Duration::from_millis(50);

/// Number of deleted events after which containers without events are looked for.
const SWEEP_AFTER: u64 = 1_000;

impl Store {
    /// Deletes the oldest events until there is room for `need` more bytes.
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
                // A database that is far too large shrinks gradually. Until then, free pages are
                // reused.
                return if free * PAGE >= 2 * need { Ok(()) } else { Err(Fault::MakingRoom) };
            }
            if self.delete_oldest(i64::MAX, step)? == 0 {
                return Err(Fault::TooLarge);
            }
        }
    }

    /// Deletes events that are too old and returns free pages to the file system. Takes little
    /// time; call it regularly.
    pub(crate) fn upkeep(&mut self) -> Result<(), Fault> {
        let (until, step) = (Instant::now() + UPKEEP_TIME, self.limits.step());
        while Instant::now() < until && self.expire(step)? == step {}
        while Instant::now() < until && self.shrink()? {}
        if self.deleted >= SWEEP_AFTER || self.swept > 0 {
            self.sweep()?;
        }
        Ok(())
    }

    /// Deletes at most `most` events that are too old. Returns how many were deleted.
    pub(crate) fn expire(&mut self, most: usize) -> Result<usize, Fault> {
        if self.keep == 0 {
            return Ok(0);
        }
        let now = i64::try_from(Timestamp::now().as_nanos()).unwrap_or(i64::MAX);
        self.delete_oldest(now.saturating_sub(self.keep), most)
    }

    /// Deletes at most `most` events from before a time, the oldest first. Returns how many were
    /// deleted.
    fn delete_oldest(&mut self, before: i64, most: usize) -> Result<usize, Fault> {
        const OLDEST: &str = "SELECT id FROM events WHERE time < ?1 ORDER BY time LIMIT ?2";
        // Looks for work without a lock.
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

    /// Shrinks the file by one step if it is too large or much of it is free. Returns whether it
    /// did.
    fn shrink(&mut self) -> Result<bool, Fault> {
        let (pages, free) = self.pages()?;
        let (limit, step) = (self.limits.database(), self.limits.step());
        if (pages - free).saturating_mul(PAGE) > limit && self.delete_oldest(i64::MAX, step)? > 0 {
            return Ok(true);
        }
        // Some free pages are kept for new events.
        let spare = if pages * PAGE > limit { 0 } else { VACUUM_STEP + pages / 16 };
        if free <= spare {
            return Ok(false);
        }
        // Each page that is returned can move another one.
        let step = VACUUM_STEP.min(self.limits.log / 8 / PAGE);
        self.bound_log(2 * step * PAGE)?;
        let sql = format!("PRAGMA incremental_vacuum({step})");
        self.connection.execute_batch(&sql)?;
        Ok(true)
    }

    /// Deletes containers without events, in one step through the table.
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
        let mut deleted_any = false;
        for key in &keys {
            if container.execute([key])? > 0 {
                labels.execute([key])?;
                deleted_any = true;
            }
        }
        drop((next, container, labels));
        transaction.commit()?;
        if deleted_any {
            self.keys.forget();
        }
        if self.swept == 0 {
            self.deleted = 0;
        }
        // Start again from the first after the last.
        self.swept = keys.last().copied().filter(|_| keys.len() == step).unwrap_or(0);
        Ok(())
    }
}
