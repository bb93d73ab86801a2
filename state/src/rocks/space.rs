//! What a disk that was full has to show before a database is opened on it again.
//!
//! A database takes rows into memory as long as there is any, and says only at its next flush that there is no space. Opened at once,
//! it would have the same rows restored over and over, for each flush that fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use millstream_core::{Error, Result};

use super::error::failed;

/// Whether there is space for a flush.
pub(super) struct Space {
    /// A file that is written to find it out.
    path: PathBuf,
    /// Bytes of a flush.
    flush: usize,
    /// Locked while one looks: the others would take the space meanwhile.
    was_full: Mutex<bool>,
}

impl Space {
    pub(super) fn new(folder: &Path, flush: usize) -> Self {
        Space { path: folder.join("space"), flush, was_full: Mutex::new(false) }
    }

    /// Takes note of an error, if it says that there is no space.
    pub(super) fn learn(&self, error: Error) -> Error {
        if matches!(error, Error::NoSpace(_)) {
            *self.was_full.lock().unwrap_or_else(PoisonError::into_inner) = true;
        }
        error
    }

    /// Looks, if there was none at last.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when there is still none.
    pub(super) fn look(&self) -> Result<()> {
        let mut was_full = self.was_full.lock().unwrap_or_else(PoisonError::into_inner);
        if *was_full {
            let written = fs::write(&self.path, vec![1; self.flush]);
            let removed = fs::remove_file(&self.path);
            written.and(removed).map_err(|e| failed(&self.path, "cannot be written", &e))?;
            *was_full = false;
        }
        Ok(())
    }
}
