//! How windows or sessions are aggregated, besides the function.

use std::time::Duration;

use millstream_core::Timestamp;

use super::fixed_windows::FixedWindows;
use crate::builder::StreamsBuilder;
use crate::durations::{FirstBad, Least};
use crate::windows::EmitStrategy;

/// Windows, how long they are kept, and when they are passed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowSpec<W> {
    pub(crate) windows: W,
    pub(crate) retention: Option<Timestamp>,
    pub(crate) emit: EmitStrategy,
    bad: FirstBad,
}

impl<W> WindowSpec<W> {
    pub(crate) fn new(windows: W) -> Self {
        WindowSpec { windows, retention: None, emit: EmitStrategy::OnUpdate, bad: FirstBad::default() }
    }

    pub(crate) fn keep_for(&mut self, retention: Duration) {
        // What is too short is too short for the windows, and how much they need is said then.
        let whole = if retention.as_millis() == 0 { Duration::ZERO } else { retention };
        self.retention = Some(self.bad.millis("a retention", whole, Least::Zero));
    }

    /// For how long windows are kept that need at least so many milliseconds; `of` says what needs them. What is wrong with
    /// the windows themselves comes first.
    pub(crate) fn kept(
        &self,
        builder: &StreamsBuilder,
        store: &str,
        windows: Option<String>,
        (what, of): (&str, &str),
        least: Timestamp,
    ) -> Timestamp {
        let retention = self.retention.unwrap_or(least);
        let short = || format!("keeps {what} for {retention} ms\n  help: {of} need at least {least} ms");
        let problem = windows.or_else(|| self.bad.get().map(|bad| bad.to_string()));
        if let Some(problem) = problem.or_else(|| (retention < least).then(short)) {
            let colon = if problem.starts_with("keeps") { "" } else { ":" };
            builder.problem(format!("`{store}`{colon} {problem}"));
        }
        retention
    }
}

impl WindowSpec<FixedWindows> {
    /// What is asked of windows that never close.
    pub(super) fn waits_for_ever(&self) -> Option<String> {
        let asked = match (self.emit, self.retention) {
            _ if self.windows.close() => return None,
            (EmitStrategy::OnWindowClose, _) => "emitted on close, and never close\n  help: without emit_on_close",
            (EmitStrategy::OnUpdate, Some(_)) => "kept for a time, and never end\n  help: without retention",
            (EmitStrategy::OnUpdate, None) => return None,
        };
        Some(format!("unlimited windows that are {asked}"))
    }
}
