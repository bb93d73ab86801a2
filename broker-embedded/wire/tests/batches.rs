//! What is built is read back, by every codec; what is damaged is refused, never a panic; and the bytes are Kafka's.

use bytes::Bytes;
use millstream_wire::{
    BatchBuilder, BatchError, Compression, Limits, ProducerStamp, RecordBatch, SealOptions, iter_headers, patch_offset,
    push_header,
};
use proptest::prelude::*;

type Field = Option<Vec<u8>>;
type Made = (i64, Field, Field, Vec<(String, Field)>);

fn field() -> impl Strategy<Value = Field> {
    let bytes = prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..300),
        1 => (8_000..9_000usize).prop_map(|len| vec![7; len])
    ];
    proptest::option::of(bytes)
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let headers = proptest::collection::vec(("[a-c]{0,3}", field()), 0..4);
    // Most times are near each other, and then they are short.
    let time = prop_oneof![0..200i64, 0..1i64 << 45];
    proptest::collection::vec((time, field(), field(), headers), 1..30)
}

fn build(records: &[Made]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for (time, key, value, headers) in records {
        let mut section = Vec::new();
        headers.iter().for_each(|(k, v)| push_header(&mut section, k, v.as_deref()));
        batch.push(*time, key.as_deref(), value.as_deref(), &section);
    }
    batch
}

fn read(batch: &RecordBatch) -> Result<Vec<Made>, BatchError> {
    let mut records = batch.records()?;
    let mut found = Vec::new();
    let all = records.clone();
    loop {
        let place = records.place();
        let Some(view) = records.next() else { break };
        let view = view?;
        all.touch(place, 1 << 20);
        assert_eq!(format!("{:?}", all.at(place)), format!("{:?}", Some(view)), "the same by its place");
        let headers: Result<Vec<_>, BatchError> =
            iter_headers(view.headers).map(|h| h.map(|(k, v)| (k.to_owned(), v.map(<[u8]>::to_vec)))).collect();
        let field = |p: Option<millstream_wire::Payload<'_>>| p.map(|p| p.as_slice().to_vec());
        found.push((view.timestamp, field(view.key), field(view.value), headers?));
    }
    Ok(found)
}

fn parse(bytes: Vec<u8>) -> Result<Option<RecordBatch>, BatchError> {
    RecordBatch::split_from(&mut Bytes::from(bytes))
}

proptest! {
    /// Compaction leaves records out: those that stay are what they were, at their offsets, and so is who sent them.
    #[test]
    fn what_is_left_of_a_batch_is_what_it_was(
        records in made(), left in any::<u32>(), horizon in proptest::option::of(0..1i64 << 45), again in any::<u32>()
    ) {
        for compression in Compression::ALL {
            let producer = Some(ProducerStamp { id: 7, epoch: 3, base_sequence: 11 });
            let options = SealOptions { compression, producer, transactional: true, control: false };
            let Ok(mut bytes) = build(&records).seal(&options) else { continue };
            patch_offset(&mut bytes, 1_000, 5);
            let mut batch = parse(bytes)?.expect("a batch");
            let before = *batch.header();
            let mut set = None;
            for (left, horizon) in [(left, horizon), (left & again, Some(17))] {
                batch = batch.retain(horizon, |record| left >> (record.offset - 1_000) & 1 == 1)?;
                batch.verify_crc()?;
                let header = *batch.header();
                set = if header.count == 0 { None } else { set.or(horizon) };
                let place = |h: &millstream_wire::BatchHeader| (h.base_offset, h.next_offset(), h.leader_epoch);
                let who = |h: &millstream_wire::BatchHeader| (h.producer_id, h.producer_epoch, h.base_sequence);
                prop_assert_eq!((place(&header), who(&header)), (place(&before), who(&before)));
                prop_assert!(header.is_transactional() && !header.is_control());
                prop_assert_eq!(header.delete_horizon(), set);
                let wanted: Vec<Made> =
                    (0..).zip(&records).filter(|(n, _)| left >> n & 1 == 1).map(|(_, r)| r.clone()).collect();
                let newest = wanted.iter().map(|(time, ..)| *time).max();
                prop_assert_eq!(header.max_timestamp, newest.unwrap_or(header.max_timestamp));
                prop_assert_eq!(read(&batch)?, wanted);
            }
        }
    }

    #[test]
    fn every_codec_gives_back_what_was_put_in(records in made()) {
        // A build without a codec refuses it by name.
        for compression in Compression::ALL {
            let producer = Some(ProducerStamp { id: 7, epoch: 3, base_sequence: 11 });
            let sealed = build(&records).seal(&SealOptions { compression, producer, transactional: true, control: false });
            let mut bytes = match sealed {
                Ok(bytes) => bytes,
                Err(BatchError::Unsupported { codec }) => {
                    prop_assert_eq!(codec, compression.to_string());
                    continue;
                }
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            patch_offset(&mut bytes, 1_000, 5);
            let batch = parse(bytes).expect("a batch").expect("a whole one");
            let facts = batch.validate(&Limits::default()).expect("nothing wrong");
            prop_assert_eq!(facts.null_key, records.iter().any(|r| r.1.is_none()));
            let h = batch.header();
            prop_assert_eq!((h.base_offset, h.leader_epoch, h.count as usize), (1_000, 5, records.len()));
            prop_assert_eq!((h.producer_id, h.producer_epoch, h.base_sequence, h.is_transactional()), (7, 3, 11, true));
            prop_assert_eq!(read(&batch).expect("records"), records.clone());
            let mut cursor = batch.records().expect("records");
            let half = records.len() as i64 / 2;
            let mut cut = cursor.clone();
            cut.cut(1_000 + half);
            prop_assert_eq!(i64::from(cut.remaining()), half);
            prop_assert_eq!(cut.next_offset(), 1_000 + half);
            cursor.skip_to(1_000 + records.len() as i64 - 1);
            prop_assert_eq!(cursor.remaining(), 1);
        }
    }

    #[test]
    fn garbage_is_refused_and_never_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), good_start in any::<bool>()) {
        if good_start && bytes.len() > 61 {
            // A header that looks right, so that the records are reached.
            let len = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&len.to_be_bytes());
            bytes[16] = 2;
            let codec = bytes[22] % 5;
            bytes[21..23].copy_from_slice(&[0, codec]);
            bytes[23..27].copy_from_slice(&9i32.to_be_bytes());
            bytes[57..61].copy_from_slice(&10i32.to_be_bytes());
        }
        if let Ok(Some(batch)) = parse(bytes) {
            let _refused_or_not = (batch.validate(&Limits { decompressed: 1 << 16 }), read(&batch));
        }
    }
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let records: Vec<Made> =
        vec![(5, Some(b"k".to_vec()), Some(b"value".to_vec()), vec![("h".into(), None)]), (4, None, None, vec![])];
    let whole = build(&records).seal(&SealOptions::default()).expect("a batch");
    for cut in 0..whole.len() {
        assert!(!matches!(parse(whole[..cut].to_vec()), Ok(Some(_))), "cut at {cut}");
    }
    for bit in 0..whole.len() * 8 {
        // Base offset and leader epoch are the log's own and not covered.
        let byte = bit / 8;
        if byte < 8 || (12..16).contains(&byte) {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[byte] ^= 1 << (bit % 8);
        let noticed = match parse(bytes) {
            Ok(Some(batch)) => batch.validate(&Limits::default()).is_err(),
            Ok(None) | Err(_) => true,
        };
        assert!(noticed, "bit {bit}");
    }
}

#[test]
fn the_bytes_are_those_of_apache_kafka() {
    // By hand from the format's description: one record, key `k`, value `v`, time 1000.
    let records = [0x10, 0, 0, 0, 2, b'k', 2, b'v', 0];
    let mut wanted = Vec::new();
    wanted.extend(0i64.to_be_bytes());
    wanted.extend((49 + records.len() as i32).to_be_bytes());
    wanted.extend((-1i32).to_be_bytes());
    wanted.push(2);
    let mut covered = Vec::new();
    covered.extend(0i16.to_be_bytes());
    covered.extend(0i32.to_be_bytes());
    covered.extend(1000i64.to_be_bytes());
    covered.extend(1000i64.to_be_bytes());
    covered.extend((-1i64).to_be_bytes());
    covered.extend((-1i16).to_be_bytes());
    covered.extend((-1i32).to_be_bytes());
    covered.extend(1i32.to_be_bytes());
    covered.extend(records);
    wanted.extend(bitwise_crc32c(&covered).to_be_bytes());
    wanted.extend(covered);
    let mut batch = BatchBuilder::new();
    batch.push(1000, Some(b"k"), Some(b"v"), &[]);
    assert_eq!(batch.seal(&SealOptions::default()).expect("a batch"), wanted);
}

/// The Castagnoli checksum a bit at a time, from its polynomial.
fn bitwise_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let zeros = vec![0u8; 4 << 20];
    for compression in Compression::ALL {
        let mut batch = BatchBuilder::new();
        batch.push(0, None, Some(&zeros), &[]);
        let Ok(bytes) = batch.seal(&SealOptions { compression, ..SealOptions::default() }) else { continue };
        if compression == Compression::None {
            continue;
        }
        let batch = parse(bytes).expect("a batch").expect("a whole one");
        let refused = batch.records_within(&Limits { decompressed: 1 << 20 });
        assert!(matches!(refused, Err(BatchError::TooLarge { .. })), "{compression}: {refused:?}");
    }
}
