//! Turning keys and values into bytes and back: [`Serde`], and the default serde of a type, [`Data`].
//!
//! A serde also says what null means to it: only `Option` types can be null.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
pub use millstream_wire::Payload;

use crate::headers::Headers;
use crate::store_format::serde_name;

/// Whether a value became bytes or is null. A null value is a tombstone in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Encoded {
    /// The value's bytes were appended.
    Bytes,
    /// The value is null; nothing was appended.
    Null,
}

/// Which half of a record a serde works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// What a serde may know about its place.
#[derive(Debug, Clone, Copy)]
pub struct SerdeContext<'a> {
    /// The topic the bytes come from or go to; for a store, its changelog topic's name without the application id.
    pub topic: &'a str,
    /// Key or value.
    pub half: Half,
}

/// Bytes from values and values from bytes. Serialisation must be deterministic: stores and joins compare bytes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no serde",
    label = "a type that implements `Serde` is needed here"
)]
pub trait Serde: Clone + Send + Sync + 'static {
    /// What it encodes.
    type Value;

    /// How many bytes every value has that is no null, of a serde whose Kafka counterpart writes lists without the lengths of their
    /// elements ([`crate::ListSerde`]).
    const SIZE: Option<usize> = None;

    /// Appends the value's bytes to `out`. May add headers (a schema id, say).
    ///
    /// # Errors
    /// When the value has no encoding; `out` may then hold a part of it.
    fn serialize(
        &self,
        value: &Self::Value,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError>;

    /// The bytes that [`Serde::serialize`] would append, if the value holds them as they are and no header belongs to them:
    /// so they need not be copied to be written.
    #[inline]
    fn as_encoded<'a>(&self, _value: &'a Self::Value) -> Option<&'a [u8]> {
        None
    }

    /// The value of `bytes`, `None` being null. Borrowed bytes can be kept without a copy through [`Payload::to_bytes`].
    ///
    /// # Errors
    /// [`SerdeError::UnexpectedNull`], or what is wrong with the bytes.
    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<Self::Value, SerdeError>;

    /// The value that a person means by `text`, for queries.
    ///
    /// # Errors
    /// When the text means no value of this type.
    #[expect(clippy::wrong_self_convention, reason = "it makes a value from text, by a serde that may have settings")]
    fn from_text(&self, text: &str) -> Result<Self::Value, SerdeError> {
        Err(SerdeError::invalid(format!("`{text}`: this type cannot be given as text")))
    }

    /// Lets go of memory that a value only shares: called for values that are kept, so that a row does not hold the
    /// whole batch it came in. What the value shares is copied by `copy`, which knows where it is kept.
    fn detach(&self, _value: &mut Self::Value, _copy: &mut impl FnMut(&[u8]) -> Bytes) {}

    /// Reads the memory that a value points to, so that the processor has it when it is needed
    /// ([`crate::StateStore::touch`]).
    fn touch(&self, _value: &Self::Value) {}

    /// The part of an encoded key that decides its partition: all of it, but for a windowed key its inner key
    /// (semantics.md 17).
    fn partition_bytes<'a>(&self, encoded: &'a [u8]) -> &'a [u8] {
        encoded
    }

    /// The name of the serde that writes [`Serde::partition_bytes`]: topics that are joined must agree in it. A serde whose
    /// bytes are those of another gives that one's.
    fn partition_serde() -> String {
        serde_name::<Self>()
    }
}

/// A type that records may hold, with its default serde.
///
/// Implemented for text, numbers, bytes, and `Option`s and lists of them; for a type of yours by `millstream::json!(MyType)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no default serde",
    note = "a reference has none: if `{Self}` is one, return what it refers to, with `.clone()`, as in `|k, v| (v, k.clone())`",
    note = "for a type of yours: add `millstream::json!({Self});` next to it (it must derive Serialize and Deserialize), or give a serde with a `_with` operator"
)]
pub trait Data: Clone + 'static {
    /// The type without null: `T` for `Option<T>`, itself otherwise.
    type NonNull: Data<NonNull = Self::NonNull>;
    /// The serde that operators use unless another is given.
    type Serde: Serde<Value = Self> + Default;

    /// `None` if it is null.
    fn into_non_null(self) -> Option<Self::NonNull>;
    /// `None` if it is null.
    fn as_non_null(&self) -> Option<&Self::NonNull>;
}

impl<T: Data<NonNull = T>> Data for Option<T> {
    type NonNull = T;
    type Serde = Nullable<T::Serde>;

    #[inline]
    fn into_non_null(self) -> Option<T> {
        self
    }
    #[inline]
    fn as_non_null(&self) -> Option<&T> {
        self.as_ref()
    }
}

/// Makes `Serde<Value = Option<T>>` of `Serde<Value = T>`: `None` is null.
#[derive(Debug, Clone, Default)]
pub struct Nullable<S>(pub S);

impl<S: Serde> Serde for Nullable<S> {
    type Value = Option<S::Value>;
    const SIZE: Option<usize> = S::SIZE;

    #[inline]
    fn serialize(
        &self,
        value: &Self::Value,
        cx: SerdeContext<'_>,
        headers: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        match value {
            Some(value) => self.0.serialize(value, cx, headers, out),
            None => Ok(Encoded::Null),
        }
    }

    #[inline]
    fn as_encoded<'a>(&self, value: &'a Self::Value) -> Option<&'a [u8]> {
        self.0.as_encoded(value.as_ref()?)
    }

    #[inline]
    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<Self::Value, SerdeError> {
        match bytes {
            Some(_) => self.0.deserialize(bytes, cx, headers).map(Some),
            None => Ok(None),
        }
    }

    fn from_text(&self, text: &str) -> Result<Self::Value, SerdeError> {
        self.0.from_text(text).map(Some)
    }

    fn detach(&self, value: &mut Self::Value, copy: &mut impl FnMut(&[u8]) -> Bytes) {
        if let Some(value) = value {
            self.0.detach(value, copy);
        }
    }

    fn touch(&self, value: &Self::Value) {
        value.iter().for_each(|value| self.0.touch(value));
    }

    fn partition_bytes<'a>(&self, encoded: &'a [u8]) -> &'a [u8] {
        self.0.partition_bytes(encoded)
    }

    fn partition_serde() -> String {
        S::partition_serde()
    }
}

/// Why a serde could not do its work.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SerdeError {
    /// Null where the type has none.
    UnexpectedNull {
        /// The type, as Rust prints it.
        wanted: &'static str,
    },
    /// A fixed-size type met another number of bytes.
    Length {
        /// How many it takes.
        wanted: usize,
        /// How many there were.
        found: usize,
    },
    /// The bytes, or the value, mean nothing to this serde.
    Invalid {
        /// What is wrong.
        problem: String,
        /// The codec's own error.
        source: Option<Arc<dyn StdError + Send + Sync>>,
    },
    /// Something must be fetched first (a schema); the record is tried again later.
    NotReady {
        /// What is waited for.
        waiting_for: String,
    },
}

impl SerdeError {
    /// [`SerdeError::Invalid`] without a source.
    pub fn invalid(problem: impl Into<String>) -> Self {
        SerdeError::Invalid { problem: problem.into(), source: None }
    }

    /// Null where `T` has none.
    pub fn null<T>() -> Self {
        SerdeError::UnexpectedNull { wanted: std::any::type_name::<T>() }
    }
}

impl fmt::Display for SerdeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SerdeError::UnexpectedNull { wanted } => {
                let short = wanted.rsplit("::").next().unwrap_or(wanted);
                write!(
                    f,
                    "null, and {short} has no null\n  help: read it as Option<{short}>, as in stream::<Option<{short}>, _>(…) for a key or stream::<_, Option<{short}>>(…) for a value"
                )
            }
            SerdeError::Length { wanted, found } => write!(f, "{found} bytes where the type takes {wanted}"),
            SerdeError::Invalid { problem, source: Some(source) } => write!(f, "{problem}: {source}"),
            SerdeError::Invalid { problem, source: None } => write!(f, "{problem}"),
            SerdeError::NotReady { waiting_for } => write!(f, "waiting for {waiting_for}"),
        }
    }
}

impl StdError for SerdeError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            SerdeError::Invalid { source: Some(source), .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
