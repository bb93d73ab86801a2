//! Queries of the stores of a thread, between two polls.

use std::time::Duration;

use super::StreamThread;
use crate::log::Isolation;
use crate::mailbox::{Letter, Mailbox};
use crate::query::{Ask, Part};
use crate::query_error::QueryError;
use crate::task::Task;
use crate::time::Clock;

/// How long queries may keep a thread from its records, between two polls.
pub(super) const TURN: Duration = Duration::from_millis(1);

/// The same in rows.
pub(super) const TURN_ROWS: usize = 1_000;

impl StreamThread {
    /// Answers what it was asked, for a turn: about [`TURN_ROWS`] rows or [`TURN`] at most.
    pub(crate) fn answer_queries(&mut self, mailbox: &Mailbox, clock: &dyn Clock) {
        mailbox.take(&mut self.letters);
        if self.letters.is_empty() {
            return;
        }
        let (begin, mut rows, mut is_over) = (clock.now().ticks, 0, false);
        for letter in std::mem::take(&mut self.letters) {
            if letter.is_abandoned() {
                continue;
            }
            if is_over {
                self.letters.push(letter);
                continue;
            }
            match self.answer_query(&letter.ask) {
                Err(QueryError::NotUpToBound { .. } | QueryError::Restoring) if letter.patient => {
                    self.letters.push(letter);
                }
                answer => {
                    let given = answer.iter().flat_map(|part| &part.rows).map(|rows| rows.remaining() as usize);
                    rows += given.sum::<usize>();
                    letter.answer(answer);
                }
            }
            is_over = rows >= TURN_ROWS || clock.now().ticks.saturating_sub(begin) >= TURN;
        }
        if is_over && !self.letters.is_empty() {
            self.wakeup.wake();
        }
    }

    /// What it was asked and has not answered.
    pub(crate) fn unanswered(&mut self) -> Vec<Letter> {
        std::mem::take(&mut self.letters)
    }

    /// Answers a part of a query.
    ///
    /// # Errors
    /// [`QueryError`], for whatever stands in the way.
    pub fn answer_query(&mut self, ask: &Ask) -> Result<Part, QueryError> {
        if !self.running {
            return Err(QueryError::Restoring);
        }
        if self.shared.topology.stores()[ask.store.0].global {
            let globals = self.globals.as_mut().ok_or(QueryError::Stopped)?;
            // They are changed by nobody's commit.
            return globals.task.query(&Ask { isolation: Isolation::ReadUncommitted, ..ask.clone() }, TURN_ROWS);
        }
        let has_store = |task: &&mut Task| {
            task.id().partition == ask.partition && task.stores.iter().any(|(id, _, _)| *id == ask.store)
        };
        self.tasks.iter_mut().find(has_store).ok_or(QueryError::Stopped)?.query(ask, TURN_ROWS)
    }
}
