//! What the keys that come next have in an index: it is found once, when they are read ahead, and not again when their records come.

use millstream_core::KEYS_AHEAD;

/// Numbers in the order in which their keys come, as far as they are known. A guess: whoever asks compares the keys.
pub(crate) struct Ahead<I> {
    numbers: [Option<I>; KEYS_AHEAD],
    next: usize,
}

impl<I: Copy + Eq> Ahead<I> {
    /// Takes the numbers of the keys that come next.
    pub(crate) fn set(&mut self, numbers: [Option<I>; KEYS_AHEAD]) {
        *self = Ahead { numbers, next: 0 };
    }

    /// The number of the next key.
    #[inline]
    pub(crate) fn expected(&self) -> Option<I> {
        self.numbers.get(self.next).copied().flatten()
    }

    /// The next key has come.
    #[inline]
    pub(crate) fn pass(&mut self) {
        self.next += 1;
    }

    /// The key of this number has come: others before it were not asked for.
    #[inline]
    pub(crate) fn pass_to(&mut self, number: I) {
        let rest = self.numbers.get(self.next..).unwrap_or_default();
        self.next += rest.iter().position(|other| *other == Some(number)).map_or(0, |at| at + 1);
    }

    /// A number is gone.
    pub(crate) fn forget(&mut self) {
        self.next = KEYS_AHEAD;
    }
}

impl<I> Default for Ahead<I> {
    fn default() -> Self {
        Ahead { numbers: [const { None }; KEYS_AHEAD], next: KEYS_AHEAD }
    }
}
