//! The exception handlers of a task: one for every kind of failure.

use crate::config::RuntimeConfig;
use crate::error::Error;
use crate::exception_handler::ExceptionHandler;

/// The handlers of a task.
#[derive(Clone)]
pub(crate) struct Handlers {
    pub(crate) deserialization: ExceptionHandler,
    pub(crate) processing: ExceptionHandler,
    pub(crate) production: ExceptionHandler,
    /// Whether what they leave out may be written elsewhere, with the commit.
    pub(crate) letters: bool,
}

impl Handlers {
    pub(crate) const FAIL: Handlers = Handlers {
        deserialization: ExceptionHandler::Fail,
        processing: ExceptionHandler::Fail,
        production: ExceptionHandler::Fail,
        letters: true,
    };

    pub(crate) fn new(config: &RuntimeConfig) -> Self {
        Handlers {
            deserialization: config.undecodable.clone(),
            processing: config.processing.clone(),
            production: config.production.clone(),
            letters: true,
        }
    }

    /// Those of global stores, which commit nothing.
    pub(crate) fn of_globals(config: &RuntimeConfig) -> Self {
        let processing = if config.processing_global { config.processing.clone() } else { ExceptionHandler::Fail };
        Handlers { processing, letters: false, ..Handlers::new(config) }
    }

    /// Whether the processing handler is asked about a record on which the program panics: not of a global store unless it is
    /// asked about those at all.
    pub(crate) fn asks_about_panics(&self) -> bool {
        self.letters || !matches!(self.processing, ExceptionHandler::Fail)
    }

    /// The one that is asked about an error.
    pub(crate) fn of(&self, error: &Error) -> &ExceptionHandler {
        match error {
            Error::Undecodable(_) => &self.deserialization,
            Error::Production(_) => &self.production,
            _ => &self.processing,
        }
    }
}
