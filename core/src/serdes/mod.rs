//! The serdes of the library's own types. Numbers are big-endian, text is UTF-8, truth is a byte, what is void is null, as Kafka's
//! own serdes write them.

mod boolean;
mod bytes;
mod list;
mod number;
mod text;
#[cfg(feature = "uuid")]
mod uuid;
mod void;

pub use self::boolean::BooleanSerde;
pub use self::bytes::BytesSerde;
#[cfg(feature = "uuid")]
pub use self::uuid::UuidSerde;
pub use list::ListSerde;
pub use number::{Number, NumberSerde};
pub use text::{StringSerde, Text, TextSerde};
pub use void::VoidSerde;
