//! Who answers queries: a running application, or a test driver.

use std::borrow::Cow;

use crate::query::{Ask, Part};
use crate::query_error::QueryError;
use crate::thread_context::ThreadContext;

/// Something that has the stores of an application and answers for them.
pub trait QueryStores: Clone {
    /// The program and its tasks.
    fn context(&self) -> Cow<'_, ThreadContext>;

    /// Asks a task, and waits for its answer. A task that is not at the bound yet, or is being restored, is waited for so long.
    ///
    /// # Errors
    /// [`QueryError`], for whatever stands in the way.
    fn ask(&self, ask: Ask, wait: std::time::Duration) -> Result<Part, QueryError>;
}
