//! The MANIFEST of a database, looked at before RocksDB opens it: RocksDB's own reader goes round for ever over a record of the kinds
//! that it keeps for logs used again, which a single damaged byte makes.
//!
//! The file is a log in blocks of 32 KiB. A record is `masked crc32c u32, length u16, kind u8, payload`, little-endian; the checksum
//! covers kind and payload. None lies in two blocks: what is larger is written in parts. The end of a block that no record has room in
//! means nothing.
//!
//! What it is not: it does not know what the records say, nor whether their parts fit together. RocksDB finds that out.

use std::fs;
use std::io;
use std::path::Path;

const BLOCK: usize = 32 << 10;

const HEADER: usize = 7;

/// Kinds of records that are written to it: a whole one, and the first, middle and last parts of one.
const KINDS: std::ops::RangeInclusive<u8> = 1..=4;

/// Whether the MANIFEST of the database in a folder is not what was written. One that is not there, or not named as it should be, is
/// for RocksDB to tell.
///
/// # Errors
/// When it cannot be read.
pub(super) fn is_damaged(folder: &Path) -> io::Result<bool> {
    let Ok(current) = fs::read_to_string(folder.join("CURRENT")) else { return Ok(false) };
    let Some(name) = current.strip_suffix('\n').filter(|name| name.starts_with("MANIFEST-")) else { return Ok(false) };
    match fs::read(folder.join(name)) {
        Ok(log) => Ok(!is_sound(&log)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a log has what was written to it, up to a record that was cut off at its end: a killed process leaves that, and RocksDB
/// passes over it.
fn is_sound(log: &[u8]) -> bool {
    // What follows was allocated and never written.
    let written = log.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut at = 0;
    while at < written {
        let block_end = at - at % BLOCK + BLOCK;
        let in_block = &log[at..log.len().min(block_end)];
        let Some((header, rest)) = in_block.split_first_chunk::<HEADER>() else {
            at = block_end;
            continue;
        };
        let [c0, c1, c2, c3, l0, l1, kind] = *header;
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        if !KINDS.contains(&kind) {
            return false;
        }
        let Some(payload) = rest.get(..length) else {
            return at + HEADER + length <= block_end;
        };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
        if u32::from_le_bytes([c0, c1, c2, c3]) != masked(crc) {
            return false;
        }
        at += HEADER + length;
    }
    true
}

/// A checksum as it is stored.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rocksdb::{DB, Options};
    use tempfile::TempDir;

    use super::*;

    /// A database whose MANIFEST has records in parts: the names of its families fill more than a block.
    fn database() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = Options::default();
        options.create_if_missing(true);
        let db = DB::open(&options, folder.path()).expect("it opens");
        for number in 0..12 {
            db.create_cf(format!("{number}-{}", "name".repeat(700)), &options).expect("a family");
        }
        drop(db);
        let current = fs::read_to_string(folder.path().join("CURRENT")).expect("a file");
        let manifest = folder.path().join(current.trim_end());
        (folder, manifest)
    }

    /// What RocksDB says: a test that does not come back has found bytes that it goes round over.
    fn rocksdb_reads(folder: &TempDir, manifest: &Path, log: &[u8]) -> bool {
        fs::write(manifest, log).expect("written");
        DB::list_cf(&Options::default(), folder.path()).is_ok()
    }

    #[test]
    fn what_was_written_is_sound_however_much_of_it_was() {
        let (folder, manifest) = database();
        assert!(!is_damaged(folder.path()).expect("it can be read"));
        let log = fs::read(manifest).expect("a file");
        assert!(log.len() > BLOCK + 1000, "{}", log.len());
        for length in 0..=log.len() {
            assert!(is_sound(&log[..length]), "{length}");
        }
        assert!(is_sound(&[log.as_slice(), &[0; 2 * BLOCK]].concat()));
    }

    #[test]
    fn a_flipped_byte_is_found_where_rocksdb_does_not_pass_over_it() {
        let (folder, manifest) = database();
        let mut log = fs::read(&manifest).expect("a file");
        let mut passed = 0;
        for at in 0..log.len() {
            for flip in [1, 0x04, 0x55, 0xFF] {
                log[at] ^= flip;
                if is_sound(&log) {
                    // A length that reaches over the end of the file, as that of a record which was cut off.
                    rocksdb_reads(&folder, &manifest, &log);
                    passed += 1;
                }
                log[at] ^= flip;
            }
        }
        assert!(passed < 50, "{passed}");
    }

    /// A start went round over them for ever.
    #[test]
    fn bytes_that_were_appended_are_found() {
        let (folder, manifest) = database();
        let log = fs::read(&manifest).expect("a file");
        for byte in 1..=u8::MAX {
            // The first 6 are no record yet: as many are left of one that was cut off in its header.
            for bytes in [HEADER, 100, BLOCK] {
                let appended = [log.as_slice(), &vec![byte; bytes]].concat();
                if is_sound(&appended) {
                    assert!(KINDS.contains(&byte) && rocksdb_reads(&folder, &manifest, &appended), "{bytes} of {byte}");
                }
            }
        }
        fs::write(&manifest, [log.as_slice(), &[7; 100]].concat()).expect("written");
        assert!(is_damaged(folder.path()).expect("it can be read"));
    }

    #[test]
    fn what_is_not_there_is_for_rocksdb_to_tell() {
        let (folder, manifest) = database();
        fs::remove_file(manifest).expect("removed");
        assert!(!is_damaged(folder.path()).expect("nothing to read"));
        for current in [&b"CURRENT\n"[..], b"", b"MANIFEST-000005", b"\xFF\n"] {
            fs::write(folder.path().join("CURRENT"), current).expect("written");
            assert!(!is_damaged(folder.path()).expect("nothing to read"));
        }
        fs::remove_file(folder.path().join("CURRENT")).expect("removed");
        assert!(!is_damaged(folder.path()).expect("nothing to read"));
    }
}
