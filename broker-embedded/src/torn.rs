//! Whether the end of a file is what a write has left that did not end, or damage of what was whole.
//!
//! A process that ends in a write leaves its beginning. A power cut leaves sectors of it that read as zeros too: never bytes of
//! another kind. So an end that is as long as it says it is, and has no such sectors, was written in whole; and so was whatever is
//! before sound pieces that go on to the end: others are in the piece that is cut off.

const SECTOR: u64 = 512;

/// How the pieces of a file are told.
pub(crate) struct Pieces {
    /// How long the piece is that these bytes begin with; `None` if they begin with none.
    pub(crate) declared: fn(&[u8]) -> Option<u64>,
    /// Whether these bytes begin with a sound piece.
    pub(crate) is_sound: fn(&[u8]) -> bool,
    /// Whether all of these bytes are one piece, whatever length it says it has.
    pub(crate) is_one: fn(&[u8]) -> bool,
}

/// Whether `rest`, the end of a file from byte `at` on, which begins with no sound piece, is of a write that did not end.
pub(crate) fn is_torn(rest: &[u8], at: u64, pieces: &Pieces) -> bool {
    let sound = (1..rest.len()).find(|from| (pieces.is_sound)(&rest[*from..]));
    let bad = &rest[..sound.unwrap_or(rest.len())];
    let goes_on = sound.is_some_and(|mut at| {
        while at < rest.len() && (pieces.is_sound)(&rest[at..]) {
            at = (pieces.declared)(&rest[at..]).map_or(rest.len(), |len| at.saturating_add(len as usize));
        }
        at == rest.len()
    });
    let is_short = !goes_on && (pieces.declared)(rest).is_some_and(|len| len > rest.len() as u64);
    is_short && !(pieces.is_one)(rest) || has_hole(bad, at)
}

/// Whether a sector of these bytes was not written, or what they have of the first or the last one.
fn has_hole(bytes: &[u8], at: u64) -> bool {
    let first = ((SECTOR - at % SECTOR) % SECTOR) as usize;
    let (begin, rest) = bytes.split_at(first.min(bytes.len()));
    let mut sectors = rest.chunks(SECTOR as usize).chain([begin]);
    let is_unwritten = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    is_unwritten(bytes) || sectors.any(|sector| sector.len() >= 64 && is_unwritten(sector))
}
