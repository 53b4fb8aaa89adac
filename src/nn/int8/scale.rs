//! Rounding of weights to 8 bits. Packing a matrix and storing it both use it, so they give the same values.

/// Maps a row of weights to −127..=127, with the largest magnitude at 127: `weight ≈ round(weight) · factor`.
///
/// A row that is rounded and restored has the same factor and the same rounded values, bit for bit.
#[derive(Clone, Copy, Debug)]
pub struct RowScale {
    inverse: f32,
    factor: f32,
}

impl RowScale {
    const LARGEST: f32 = 127.0;

    /// 1.5 · 2²³. A sum with it has no fraction, so subtracting it again rounds, ties to even, without a call.
    const ROUNDS: f32 = 12_582_912.0;

    /// The scale of a row of finite weights.
    pub fn of(row: &[f32]) -> Self {
        let top = row.iter().fold(0f32, |top, weight| top.max(weight.abs()));
        let factor = top / Self::LARGEST;
        // Such a row becomes zero. Its inverse could overflow.
        if factor < f32::MIN_POSITIVE {
            return Self { inverse: 0.0, factor: 0.0 };
        }
        Self { inverse: Self::LARGEST / top, factor }
    }

    /// Ties go to the even value.
    #[inline]
    pub fn round(self, weight: f32) -> i8 {
        (weight * self.inverse + Self::ROUNDS - Self::ROUNDS) as i8
    }

    /// The weight that a rounded value of 1 stands for; 0 or a normal number.
    pub fn factor(self) -> f32 {
        self.factor
    }

    /// The weight that `rounded` stands for.
    #[inline]
    pub fn restore(rounded: i8, factor: f32) -> f32 {
        f32::from(rounded) * factor
    }
}

#[cfg(test)]
mod tests;
