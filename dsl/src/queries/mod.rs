//! Interactive queries: what an application's stores hold, asked from outside while it runs (Kafka's IQv2).
//!
//! A query knows its types: it becomes bytes here, `core` carries them to the store's thread and the rows back, and they are
//! decoded on the caller's thread. Called by programs, and by tests through the driver.

mod answer;
mod key_value;
mod request;
mod session;
mod versioned;
mod window;

pub use answer::{QueryResult, QueryRows, StateQueryResult, ValueAndTimestamp};
pub use key_value::{KeyQuery, PrefixQuery, RangeQuery};
pub use request::{InteractiveQueries, Query, StateQueryRequest, in_store};
pub use session::SessionQuery;
pub use versioned::{MultiVersionedKeyQuery, VersionedKeyQuery};
pub use window::{WindowKeyQuery, WindowRangeQuery};
