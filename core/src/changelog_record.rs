//! A row as a changelog has it.

use crate::log::Offset;
use crate::time::Timestamp;

/// One record of a changelog, as it is read back.
#[derive(Debug, Clone, Copy)]
pub struct ChangelogRecord<'a> {
    /// Row key.
    pub key: &'a [u8],
    /// Row, or `None` for a deletion.
    pub value: Option<&'a [u8]>,
    /// The row's time.
    pub timestamp: Timestamp,
    /// Encoded header section.
    pub headers: &'a [u8],
    /// Offset in the changelog.
    pub offset: Offset,
}
