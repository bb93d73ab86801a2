//! The times of a task by their names: so they are found again, after a start and after a rollback. What becomes of one that was
//! committed, by this program or an earlier one, the end of its name says.

use std::collections::HashMap;

use crate::context::TimeSlot;
use crate::punctuation::{FirstTime, Punctuation};
use crate::time::{NO_TIME, Timestamp};

/// The end of the names of times that may move back.
const LEAST: &str = ".least";

/// The end of the names of times at which something fires next.
const DUE: &str = ".punctuate";

/// The name of a time at which the least of what waits is: of two that were committed the smaller counts.
pub(crate) fn least(name: &str) -> String {
    format!("{name}{LEAST}")
}

/// Whether a time says when something fires next. It does not only grow: what is left of it beside other inputs may be old.
pub(crate) fn is_due(name: &str) -> bool {
    name.ends_with(DUE)
}

/// Names of times.
#[derive(Debug, Default)]
pub(crate) struct Times {
    slots: HashMap<String, TimeSlot>,
    /// Timers as they were when the task began: a program may give them another first time whenever its nodes are made anew.
    timers: HashMap<String, TimeSlot>,
}

impl Times {
    /// A time by its name; a new one has none yet.
    pub(crate) fn slot(&mut self, name: &str, values: &mut Vec<Timestamp>) -> TimeSlot {
        *self.slots.entry(name.to_owned()).or_insert_with(|| {
            values.push(NO_TIME);
            TimeSlot(values.len() - 1)
        })
    }

    /// When a timer fires next. Another clock, interval or first time is another one: a changed program's begins as it says, and
    /// not when the earlier one was due.
    pub(crate) fn timer(
        &mut self,
        name: &str,
        punctuation: &Punctuation,
        first: Option<FirstTime>,
        values: &mut Vec<Timestamp>,
    ) -> TimeSlot {
        if let Some(slot) = self.timers.get(name) {
            return *slot;
        }
        let first = match first {
            Some(FirstTime::At(time)) => time.to_string(),
            Some(FirstTime::Usual) => "usual".to_owned(),
            None => "started".to_owned(),
        };
        let slot = self.slot(&format!("{name}.{}.{first}{DUE}", punctuation.pace()), values);
        self.timers.insert(name.to_owned(), slot);
        slot
    }

    /// Takes up a time that was committed. One that is not the task's own it keeps for others, whose inputs it may have now.
    pub(crate) fn take_up(&mut self, name: &str, time: Timestamp, values: &mut Vec<Timestamp>) {
        let slot = self.slot(name, values);
        let own = &mut values[slot.0];
        *own = match *own {
            least if name.ends_with(LEAST) && least != NO_TIME && time != NO_TIME => least.min(time),
            own => own.max(time),
        };
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, TimeSlot)> {
        self.slots.iter().map(|(name, slot)| (name.as_str(), *slot))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::punctuation::PunctuationType;

    #[test]
    fn the_larger_counts_and_of_what_waits_the_smaller() {
        let (mut times, mut values) = (Times::default(), Vec::new());
        let waits = least("joined");
        for (name, time) in [("closed", 5), ("closed", 9), ("closed", 7), (&waits, 5), (&waits, 3), (&waits, NO_TIME)] {
            times.take_up(name, time, &mut values);
        }
        let of = |times: &mut Times, values: &mut Vec<_>, name: &str| {
            let slot = times.slot(name, values);
            values[slot.0]
        };
        assert_eq!([of(&mut times, &mut values, "closed"), of(&mut times, &mut values, &waits)], [9, 3]);
        times.take_up("other.least", NO_TIME, &mut values);
        times.take_up("other.least", 4, &mut values);
        assert_eq!(of(&mut times, &mut values, "other.least"), 4);
    }

    #[test]
    fn a_timer_whose_program_says_another_first_time_is_the_same_in_the_same_task() {
        let (mut times, mut values) = (Times::default(), Vec::new());
        let every_minute = Punctuation::new(PunctuationType::WallClockTime, Duration::from_secs(60));
        let slots = [1, 2].map(|first| times.timer("p.0", &every_minute, Some(FirstTime::At(first)), &mut values));
        assert!(slots[0] == slots[1] && values.len() == 1);
        assert!(times.iter().all(|(name, _)| is_due(name) && name == "p.0.wall.60000.1.punctuate"));
    }
}
