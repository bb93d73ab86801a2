//! JSON through serde: the default serde of a user's own types.

use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::{Encoded, Headers, Payload, Serde, SerdeContext, SerdeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The serde of a type that serde can write as JSON.
pub struct Json<T>(PhantomData<fn() -> T>);

impl<T> Clone for Json<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}
impl<T> Default for Json<T> {
    fn default() -> Self {
        Json(PhantomData)
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Serde for Json<T> {
    type Value = T;

    fn serialize(
        &self,
        value: &T,
        _: SerdeContext<'_>,
        _: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        serde_json::to_writer(out, value).map_err(|e| invalid::<T>("cannot be written as", e))?;
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<Payload<'_>>, _: SerdeContext<'_>, _: &Headers) -> Result<T, SerdeError> {
        let bytes = bytes.ok_or_else(SerdeError::null::<T>)?;
        serde_json::from_slice(bytes.as_slice()).map_err(|e| invalid::<T>("cannot be read from", e))
    }

    fn from_text(&self, text: &str) -> Result<T, SerdeError> {
        serde_json::from_str(text).map_err(|e| invalid::<T>("cannot be read from", e))
    }
}

#[cold]
fn invalid<T>(what: &str, source: serde_json::Error) -> SerdeError {
    let name = std::any::type_name::<T>();
    SerdeError::Invalid {
        problem: format!("{} {what} this JSON", name.rsplit("::").next().unwrap_or(name)),
        source: Some(Arc::new(source)),
    }
}

/// Gives types that derive serde's `Serialize` and `Deserialize` JSON as their default serde.
///
/// ```
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Order { total: i64 }
/// millstream_dsl::json!(Order);
///
/// let b = millstream_dsl::StreamsBuilder::new();
/// b.stream::<String, Order>("orders").filter(|_, o| o.total > 0).to("paid");
/// # b.build()?;
/// # Ok::<(), millstream_core::Error>(())
/// ```
#[macro_export]
macro_rules! json {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::core::Data for $type {
            type NonNull = $type;
            type Serde = $crate::Json<$type>;
            fn into_non_null(self) -> Option<$type> {
                Some(self)
            }
            fn as_non_null(&self) -> Option<&$type> {
                Some(self)
            }
        }
    )+};
}
