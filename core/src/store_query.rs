//! Which rows of a store a query asks for, as bytes.

use std::ops::{Bound, RangeInclusive};

use crate::time::Timestamp;

/// Which rows of a store are asked for. Every kind of store takes from it what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreQuery {
    /// The keys, without the place in time that windows and sessions have.
    pub keys: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// Windows that start at one of these times, sessions and versions that are valid at one of them.
    pub times: RangeInclusive<Timestamp>,
    /// The last one first.
    pub descending: bool,
    /// The key in the changelog of the last row that was given.
    pub after: Option<Vec<u8>>,
}

/// A range of key bytes.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Whether no key can be in a range, since it ends before it begins; maps panic at such a one.
pub fn is_empty_range(range: KeyRange<'_>) -> bool {
    match range {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

impl StoreQuery {
    /// The rows of one key.
    pub fn key(key: Vec<u8>) -> Self {
        Self::range((Bound::Included(key.clone()), Bound::Included(key)))
    }

    /// The rows of a range of keys.
    pub fn range(keys: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Self {
        StoreQuery { keys, times: Timestamp::MIN..=Timestamp::MAX, descending: false, after: None }
    }

    /// The key, if it asks for one alone.
    pub fn single_key(&self) -> Option<&[u8]> {
        match &self.keys {
            (Bound::Included(from), Bound::Included(to)) if from == to => Some(from),
            _ => None,
        }
    }

    /// The keys that are left when rows of this one have been given; `None` if there are none. `again`: the key itself has
    /// more rows.
    pub fn keys_left<'a>(&'a self, given: Option<&'a [u8]>, again: bool) -> Option<KeyRange<'a>> {
        let (mut from, mut to) = (self.keys.0.as_ref().map(Vec::as_slice), self.keys.1.as_ref().map(Vec::as_slice));
        if let Some(given) = given {
            let bound = if again { Bound::Included(given) } else { Bound::Excluded(given) };
            *if self.descending { &mut to } else { &mut from } = bound;
        }
        (!is_empty_range((from, to))).then_some((from, to))
    }

    /// What is left when the row with this key in the changelog has been given.
    #[must_use]
    pub fn after(&self, changelog_key: &[u8]) -> Self {
        StoreQuery { after: Some(changelog_key.to_vec()), ..self.clone() }
    }
}
