//! What a thread does after an error: back to its last commit, and on from there if that may help.

use std::time::Duration;

use super::commit::Commit;
use super::{Next, StreamThread, new_tasks};
use crate::error::{Error, Result};
use crate::task::Task;
use crate::time::{Now, Timestamp};

/// How long a thread waits after an error that may pass, such as a full disk.
pub(crate) const RETRY_BACKOFF: Duration = Duration::from_millis(500);

impl StreamThread {
    /// Rolls back to the last commit after an error, and says how to go on.
    ///
    /// # Errors
    /// The error, if it neither passes by itself nor can be mended here.
    pub(crate) fn recover(&mut self, error: Error, now: Now) -> Result<Next> {
        self.broken = true;
        // The first error is the one to report, unless the rollback says that another has taken over; one that
        // fails for another reason is tried again by the next step.
        let was_running = self.running;
        let second = if error.is_task_migrated() { None } else { self.mend(now.wall).err() };
        let are_anew = was_running && !self.running && second.is_none();
        let error = second.filter(Error::is_task_migrated).unwrap_or(error);
        if let Error::Log(fenced) = &error
            && fenced.is_task_migrated()
        {
            self.fenced = Some((**fenced).clone());
        }
        let may_help =
            matches!(error, Error::Panicked(_) | Error::Unencodable(_) | Error::TooLarge(_) | Error::Processing(_));
        if may_help && self.tasks.iter_mut().any(Task::goes_on) {
            return Ok(Next::Again);
        }
        // Each store may be found damaged, one after the other.
        if matches!(error, Error::Damaged(_)) && self.rebuilt < self.tasks.iter().map(|task| task.stores.len()).sum() {
            self.rebuilt += 1;
            self.rebuild();
            return Ok(Next::Again);
        }
        if matches!(error, Error::NoSpace(_)) {
            self.rebuild();
        }
        if error.is_retriable() {
            self.held_up = Some(error);
            return Ok(Next::Wait(Some(now.ticks + RETRY_BACKOFF)));
        }
        // New tasks meet again what was at fault.
        if are_anew { Ok(Next::Again) } else { Err(error) }
    }

    /// Starts the tasks anew, from what is committed. What is damaged on disk was marked, and is emptied when it is opened again; a
    /// disk that has failed takes nothing more before that.
    pub(super) fn rebuild(&mut self) {
        // Before new ones open the same folders.
        self.tasks.clear();
        self.tasks = new_tasks(&self.shared, &self.planned, &self.global_stores);
        (self.running, self.restore) = (false, None);
    }

    /// Ends the open transaction after a failure or a panic: its readers would wait for it, and the next run may have
    /// no thread of this name that ends it.
    pub(crate) fn abandon(&mut self) {
        // Without the log there are no readers either; the log ends the transaction when it is opened again.
        let _unreachable = self.producer.abort();
    }

    /// Does the rollback that a failed step needs.
    pub(super) fn mend(&mut self, wall: Timestamp) -> Result<()> {
        if self.broken {
            self.rollback(wall)?;
            self.broken = false;
        }
        Ok(())
    }

    /// Every failure ends here: the transaction is ended, every task goes back to its last commit, reading goes on
    /// from there. A commit that is under way may yet have been done: the log is asked first.
    pub(super) fn rollback(&mut self, wall: Timestamp) -> Result<()> {
        match std::mem::replace(&mut self.commit, Commit::Idle) {
            Commit::Idle if self.spent => {}
            Commit::Idle => match self.producer.abort() {
                // A new producer would fence whoever has taken over.
                Err(error) if error.is_task_migrated() => return Err(error.into()),
                aborted => self.spent = aborted.is_err(),
            },
            Commit::UnderWay(offsets) | Commit::Unknown(offsets) => {
                (self.commit, self.spent) = (Commit::Unknown(offsets), true);
            }
        }
        if self.spent {
            self.renew()?;
            self.spent = false;
        }
        (self.uncommitted_since, self.span_is_full, self.unsent_since) = (None, false, None);
        if !self.running {
            return Ok(());
        }
        let mut slot = 0;
        for task in &mut self.tasks {
            task.cx().wall = wall;
            for offset in task.rollback()? {
                self.consumer.seek(slot, offset);
                slot += 1;
            }
        }
        Ok(())
    }
}
