//! What an aggregation does with a record, and with two sessions that become one.

use crate::reference::row::first;

/// The functions of an aggregation. Aggregates are text; numbers are written out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fold {
    /// What is there so far, and the record's value: what is there then, or nothing.
    pub(crate) step: fn(Option<&str>, Option<&str>) -> Option<String>,
    /// What is merged so far, and the next session's.
    pub(crate) merge: fn(Option<&str>, &str) -> String,
}

fn number(text: Option<&str>) -> i64 {
    text.map_or(0, |text| text.parse().expect("a count is a number"))
}

fn bars(sum: Option<&str>, next: &str) -> String {
    format!("{}|{next}", sum.unwrap_or_default())
}

/// Counts records.
pub(crate) const COUNT: Fold = Fold {
    step: |sum, _| Some((number(sum) + 1).to_string()),
    merge: |sum, next| (number(sum) + number(Some(next))).to_string(),
};

/// Joins values with commas; `del` deletes.
pub(crate) const REDUCE: Fold = Fold {
    step: |sum, value| match (sum, value?) {
        (None, value) => Some(value.to_owned()),
        (Some(_), "del") => None,
        (Some(sum), value) => Some(format!("{sum},{value}")),
    },
    merge: bars,
};

/// Appends first characters; `del` deletes.
pub(crate) const AGGREGATE: Fold = Fold {
    step: |sum, value| match value? {
        "del" => None,
        value => Some(sum.unwrap_or_default().to_owned() + &first(value)),
    },
    merge: bars,
};

/// Appends first characters, `~` for a null.
pub(crate) const APPEND: Fold = Fold {
    step: |sum, value| Some(sum.unwrap_or_default().to_owned() + &value.map_or("~".to_owned(), first)),
    merge: bars,
};

/// Appends whole values; `del` deletes.
pub(crate) const CONCATENATE: Fold = Fold {
    step: |sum, value| match value? {
        "del" => None,
        value => Some(sum.unwrap_or_default().to_owned() + value),
    },
    merge: bars,
};
