//! What a closure of the program may fail with: with nothing, or with any error. So a method and its `try_` twin share one
//! node, and the checks of the one that cannot fail are compiled away.

use std::convert::Infallible;

use millstream_core::{Error, NodeId, TaskContext};

/// Any error: what the closures of `try_` methods may return.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The error type of a closure in a node.
pub(crate) trait Failure: Into<Error> {
    /// Whether a node must be prepared for it.
    const POSSIBLE: bool;
}

impl Failure for Infallible {
    const POSSIBLE: bool = false;
}

/// An [`Error::User`], which [`millstream_core::TaskContext::failed`] takes.
impl Failure for Error {
    const POSSIBLE: bool = true;
}

/// The result of a closure that cannot fail.
#[inline]
pub(crate) fn sure<T>(value: T) -> Result<T, Infallible> {
    Ok(value)
}

/// A row that a closure of a table makes: none if it fails and the handler leaves that out (semantics.md 76).
#[inline]
pub(crate) fn row_or_none<T, E: Failure>(
    cx: &mut TaskContext,
    node: NodeId,
    tried: Result<Option<T>, E>,
) -> Result<Option<T>, Error> {
    match tried {
        Ok(row) => Ok(row),
        Err(error) => cx.failed(node, error.into()).map(|()| None),
    }
}
