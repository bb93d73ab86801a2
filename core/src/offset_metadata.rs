//! The metadata string of a committed offset, in Kafka Streams' format (semantics.md 2): base64 of a version byte 2,
//! the partition's time, and a map of named times. Ours are the operators' stream times and what punctuates next.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::time::Timestamp;

/// What is kept beside an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetMetadata {
    pub(crate) partition_time: Timestamp,
    pub(crate) times: Vec<(String, Timestamp)>,
}

const VERSION: u8 = 2;

impl OffsetMetadata {
    pub(crate) fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.partition_time.to_be_bytes());
        bytes.extend((self.times.len() as i32).to_be_bytes());
        for (name, time) in &self.times {
            bytes.extend((name.len() as i32).to_be_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(time.to_be_bytes());
        }
        BASE64.encode(bytes)
    }

    /// `None` for an unknown version or damage: times are then unknown, as upstream treats it.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text).ok()?;
        let mut rest = bytes.as_slice();
        let mut take = |n: usize| -> Option<&[u8]> {
            let (head, tail) = rest.split_at_checked(n)?;
            rest = tail;
            Some(head)
        };
        let version = *take(1)?.first()?;
        let partition_time = i64::from_be_bytes(take(8)?.try_into().ok()?);
        let mut times = Vec::new();
        match version {
            1 => {}
            VERSION => {
                let count = i32::from_be_bytes(take(4)?.try_into().ok()?);
                for _ in 0..count {
                    let len = i32::from_be_bytes(take(4)?.try_into().ok()?);
                    let name = String::from_utf8(take(usize::try_from(len).ok()?)?.to_vec()).ok()?;
                    times.push((name, i64::from_be_bytes(take(8)?.try_into().ok()?)));
                }
            }
            _ => return None,
        }
        Some(OffsetMetadata { partition_time, times })
    }
}

#[cfg(test)]
mod tests {
    use super::OffsetMetadata;

    #[test]
    fn survives_the_way_and_back() {
        let metadata =
            OffsetMetadata { partition_time: 17, times: vec![("counts".into(), -1), ("é".into(), i64::MAX)] };
        assert_eq!(OffsetMetadata::decode(&metadata.encode()), Some(metadata));
    }

    #[test]
    fn damage_is_unknown_not_a_panic() {
        let text = OffsetMetadata { partition_time: 1, times: vec![("a".into(), 2)] }.encode();
        for cut in 0..text.len() {
            let _no_panic = OffsetMetadata::decode(&text[..cut]);
        }
        assert_eq!(OffsetMetadata::decode(""), None);
        assert_eq!(OffsetMetadata::decode("Zm9vYmFy"), None);
    }
}
