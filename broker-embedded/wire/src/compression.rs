//! The four codecs of a batch, each behind a feature. Decompression stops at a limit, whatever the bytes declare.

use std::fmt;
use std::str::FromStr;
#[cfg(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
use std::{io::Read, sync::Arc};

use crate::error::BatchError;

/// Codec of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[expect(missing_docs, reason = "the names are the codecs'")]
#[non_exhaustive]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// All codecs, by number.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    pub(crate) fn id(self) -> i16 {
        self as i16
    }

    pub(crate) fn from_id(id: i16) -> Result<Self, BatchError> {
        usize::try_from(id)
            .ok()
            .and_then(|id| Self::ALL.get(id))
            .copied()
            .ok_or_else(|| BatchError::Unsupported { codec: id.to_string() })
    }

    fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Packs bytes.
    pub(crate) fn compress(self, bytes: &[u8]) -> Result<Vec<u8>, BatchError> {
        match self {
            Compression::None => Ok(bytes.to_vec()),
            #[cfg(feature = "gzip")]
            Compression::Gzip => {
                let mut out = Vec::new();
                flate2::read::GzEncoder::new(bytes, flate2::Compression::default())
                    .read_to_end(&mut out)
                    .map_err(|e| self.damaged(e))?;
                Ok(out)
            }
            #[cfg(feature = "snappy")]
            Compression::Snappy => xerial::compress(bytes).map_err(|e| self.damaged(e)),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                std::io::Write::write_all(&mut encoder, bytes).map_err(|e| self.damaged(e))?;
                encoder.finish().map_err(|e| self.damaged(e.into()))
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd => zstd::stream::encode_all(bytes, 0).map_err(|e| self.damaged(e)),
            #[cfg(not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")))]
            _ => Err(BatchError::Unsupported { codec: self.name().into() }),
        }
    }

    /// Unpacks bytes, up to `limit` of them.
    pub(crate) fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        match self {
            Compression::None => Ok(bytes.to_vec()),
            #[cfg(feature = "gzip")]
            Compression::Gzip => self.read_within(flate2::read::GzDecoder::new(bytes), limit),
            #[cfg(feature = "snappy")]
            Compression::Snappy => xerial::decompress(bytes, limit)
                .map_err(|e| e.map_or(BatchError::TooLarge { limit }, |e| self.damaged(e))),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => self.read_within(lz4_flex::frame::FrameDecoder::new(bytes), limit),
            #[cfg(feature = "zstd")]
            Compression::Zstd => {
                self.read_within(zstd::stream::read::Decoder::new(bytes).map_err(|e| self.damaged(e))?, limit)
            }
            #[cfg(not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")))]
            _ => {
                let _unused = limit;
                Err(BatchError::Unsupported { codec: self.name().into() })
            }
        }
    }

    #[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
    fn read_within(self, source: impl Read, limit: usize) -> Result<Vec<u8>, BatchError> {
        let mut out = Vec::new();
        source.take(limit as u64 + 1).read_to_end(&mut out).map_err(|e| self.damaged(e))?;
        if out.len() > limit { Err(BatchError::TooLarge { limit }) } else { Ok(out) }
    }

    #[cfg(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
    fn damaged(self, source: std::io::Error) -> BatchError {
        BatchError::Compressed { codec: self.name(), source: Arc::new(source) }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = BatchError;

    fn from_str(name: &str) -> Result<Self, BatchError> {
        Self::ALL.into_iter().find(|c| c.name() == name).ok_or_else(|| BatchError::Unsupported { codec: name.into() })
    }
}

/// Snappy as Java clients write it: a header, then length-prefixed blocks. Plain snappy is read too.
#[cfg(feature = "snappy")]
mod xerial {
    use std::io::Error;

    const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
    const BLOCK: usize = 32 * 1024;

    pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = MAGIC.to_vec();
        out.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        let mut encoder = snap::raw::Encoder::new();
        for block in bytes.chunks(BLOCK) {
            let packed = encoder.compress_vec(block)?;
            out.extend((packed.len() as i32).to_be_bytes());
            out.extend(packed);
        }
        Ok(out)
    }

    /// `Err(None)` is more than the limit.
    pub(super) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Option<Error>> {
        let mut out = Vec::new();
        let Some(mut rest) = bytes.strip_prefix(&MAGIC) else {
            block(bytes, limit, &mut out)?;
            return Ok(out);
        };
        let cut = || Some(Error::new(std::io::ErrorKind::UnexpectedEof, "a block is cut off"));
        rest = rest.get(8..).ok_or_else(cut)?;
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let len = usize::try_from(i32::from_be_bytes(*len)).map_err(|_| cut())?;
            let (packed, tail) = tail.split_at_checked(len).ok_or_else(cut)?;
            block(packed, limit, &mut out)?;
            rest = tail;
        }
        if rest.is_empty() { Ok(out) } else { Err(cut()) }
    }

    fn block(packed: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Option<Error>> {
        // The declared length is bounded before anything is allocated; snappy packs at most 64 bytes into three.
        let len = snap::raw::decompress_len(packed).map_err(|e| Some(e.into()))?;
        if out.len() + len > limit {
            return Err(None);
        }
        if len > packed.len().saturating_mul(64) {
            return Err(Some(Error::new(std::io::ErrorKind::InvalidData, "more is declared than the bytes can hold")));
        }
        let start = out.len();
        out.resize(start + len, 0);
        let found = snap::raw::Decoder::new().decompress(packed, &mut out[start..]).map_err(|e| Some(e.into()))?;
        out.truncate(start + found);
        Ok(())
    }
}
