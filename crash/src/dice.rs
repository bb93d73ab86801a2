//! Numbers that look random and come from a seed alone (splitmix64).

/// A stream of numbers.
pub(crate) struct Dice(u64);

impl Dice {
    /// The stream of a seed and of what it is for.
    pub(crate) fn new(seed: u64, purpose: &[u64]) -> Self {
        let mut dice = Dice(seed);
        for part in purpose {
            dice.0 = dice.roll() ^ part.wrapping_mul(0xff51_afd7_ed55_8ccd);
        }
        dice
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// One of several, of which there is at least one.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
