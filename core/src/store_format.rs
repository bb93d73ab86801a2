//! How the rows of a store are written: by this a start can tell whether the rows that are there are its own.

use crate::type_name::short_type_name;

/// What kind of rows a store has, and of which types; plain text, since it is kept and compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFormat {
    /// What the store is: `key-value`, `window`.
    pub kind: &'static str,
    /// The serde of its keys.
    pub key: String,
    /// The serde of its values.
    pub value: String,
    /// What else a row's meaning depends on, such as the size of its window.
    pub details: Vec<(&'static str, String)>,
}

impl StoreFormat {
    /// A kind of store with these serdes.
    pub fn of<KS, VS>(kind: &'static str) -> Self {
        StoreFormat { kind, key: serde_name::<KS>(), value: serde_name::<VS>(), details: Vec::new() }
    }

    /// With a detail.
    pub fn with(mut self, detail: &'static str, value: impl ToString) -> Self {
        self.details.push((detail, value.to_string()));
        self
    }
}

/// The name of a serde as it is kept and compared. Whether null is allowed changes no bytes.
pub fn serde_name<S>() -> String {
    let name = short_type_name(std::any::type_name::<S>());
    match name.strip_prefix("Nullable<").and_then(|name| name.strip_suffix('>')) {
        Some(name) => name.to_owned(),
        None => name,
    }
}
