//! Chance that is the same in every run.

/// Numbers that are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// By the inverse of the distribution's integral: near enough for the tail, and exact in its shape.
    pub(crate) fn zipf(&mut self, keys: u64) -> u64 {
        const S: f64 = 1.1;
        let uniform = self.next() as f64 / (1u64 << 31) as f64;
        let all = 1.0 - (keys as f64).powf(1.0 - S);
        let rank = (1.0 - uniform * all).powf(1.0 / (1.0 - S));
        (rank as u64).clamp(1, keys) - 1
    }
}
