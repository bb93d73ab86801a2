//! Small files of our own that are replaced as a whole: what they are, their format, whose they are, and a checksum of all of it.
//!
//! ```text
//! magic=millstream-topic ⏎ version=2 ⏎ of=orders-0 ⏎ … ⏎ crc32c=0123abcd ⏎
//! ```
//!
//! The first format had neither magic nor checksum.

use std::io::ErrorKind;
use std::path::Path;

use millstream_core::{Files, LogError};

use crate::data_dir::io;

const VERSION: u32 = 2;

/// What such a file is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind<'a> {
    /// Of what kind.
    pub(crate) name: &'static str,
    /// Whose: a partition's folder, or empty for what is the whole directory's.
    pub(crate) of: &'a str,
}

/// What such a file says.
#[derive(Debug)]
pub(crate) enum Text {
    /// As it was written.
    Sealed(String),
    /// Of the first format: nothing vouches for it.
    Plain(String),
}

impl Kind<'_> {
    fn head(self) -> String {
        format!("magic=millstream-{}\nversion={VERSION}\nof={}\n", self.name, self.of)
    }

    /// Replaces a file.
    pub(crate) fn write(self, files: &dyn Files, path: &Path, body: &str) -> Result<(), LogError> {
        let mut text = self.head() + body;
        text.push_str(&format!("crc32c={:08x}\n", crc32c::crc32c(text.as_bytes())));
        files.replace(path, text.as_bytes()).map_err(|e| io("cannot write", path, e))
    }

    /// Reads a file; `None` if it is not there.
    pub(crate) fn read(self, files: &dyn Files, path: &Path) -> Result<Option<Text>, LogError> {
        let bytes = match files.read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io("cannot read", path, e)),
        };
        let damaged = |problem: String| Err(LogError::Corrupt { place: path.display().to_string(), problem });
        let text = String::from_utf8_lossy(&bytes);
        let Some(rest) = text.strip_prefix("magic=millstream-") else {
            return Ok(Some(Text::Plain(text.into_owned())));
        };
        let sealed = text
            .strip_suffix('\n')
            .and_then(|all| all.rsplit_once('\n'))
            .and_then(|(before, last)| Some((before.len() + 1, last.strip_prefix("crc32c=")?)));
        // Where bytes are no text, the text is longer than they are.
        let is_sum = |end, crc| bytes.get(..end).is_some_and(|body| crc == format!("{:08x}", crc32c::crc32c(body)));
        let sound = sealed.is_some_and(|(end, crc)| is_sum(end, crc));
        let version = rest.lines().nth(1).and_then(|line| line.strip_prefix("version=")?.parse::<u32>().ok());
        if let Some(newer) = version.filter(|version| *version > VERSION && (sound || sealed.is_none())) {
            return Err(LogError::Other {
                message: format!(
                    "{} has format {newer}, this program knows formats up to {VERSION}\n  help: use the newer program that wrote it",
                    path.display()
                ),
                retriable: false,
            });
        }
        let Some((end, _)) = sealed.filter(|_| sound) else {
            return damaged("its checksum is not that of its text".into());
        };
        match text[..end].strip_prefix(&self.head()) {
            Some(body) => Ok(Some(Text::Sealed(body.to_owned()))),
            None => damaged(format!("it is not the {} of `{}`: another file is in its place", self.name, self.of)),
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::{OpenMode, SimFiles};

    use super::*;

    const KIND: Kind<'static> = Kind { name: "topic", of: "t-0" };

    fn read(bytes: &[u8]) -> Result<Option<Text>, LogError> {
        let (files, path) = (SimFiles::default(), Path::new("/d/f"));
        files.create_dir(Path::new("/d")).expect("a folder");
        files.open(path, OpenMode::Create).and_then(|f| f.write_all_at(bytes, 0)).expect("a write");
        KIND.read(&files, path)
    }

    #[test]
    fn whatever_is_changed_is_found() {
        let (files, path) = (SimFiles::default(), Path::new("/d/f"));
        files.create_dir(Path::new("/d")).expect("a folder");
        KIND.write(&files, path, "id=7\n").expect("a write");
        let whole = files.read(path).expect("a file");
        assert!(matches!(read(&whole), Ok(Some(Text::Sealed(body))) if body == "id=7\n"));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(read(&flipped), Ok(Some(Text::Sealed(_)))), "bit {bit}");
        }
        for len in 0..whole.len() {
            assert!(!matches!(read(&whole[..len]), Ok(Some(Text::Sealed(_)))), "cut at {len}");
        }
        let mut garbage = whole.clone();
        garbage[24..whole.len() - 17].fill(0xFF);
        assert!(matches!(read(&garbage), Err(LogError::Corrupt { .. })));
        let other = Kind { of: "u-0", ..KIND }.read(&files, path).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(other.contains("another file is in its place") && other.contains("help:"), "{other}");
    }

    #[test]
    fn a_newer_format_asks_for_the_newer_program() {
        let error = read(b"magic=millstream-topic\nversion=3\nwhatever").err().map(|e| e.to_string());
        assert!(error.is_some_and(|e| e.contains("format 3") && e.contains("help: use the newer program")));
    }
}
