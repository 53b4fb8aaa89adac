//! A day's load: few requests at night, many in the daytime, and two bursts.

/// Requests a second at any time of a day.
#[derive(Clone, Copy, Debug)]
pub struct Day {
    /// The most that the daytime brings, without bursts.
    pub peak: f64,
}

pub const SECONDS: u32 = 24 * 60 * 60;
const HOUR: f64 = 3600.0;
/// Of the peak, at four in the morning.
const NIGHT: f64 = 0.08;
/// Begin in hours, length in seconds, and the share of the peak that comes on top at once.
const BURSTS: [(f64, f64, f64); 2] = [(9.5, 600.0, 0.6), (20.0, 180.0, 1.0)];

impl Day {
    pub fn rate(self, second: f64) -> f64 {
        let hour = second / HOUR;
        // A cosine, squared so that nights are longer than noons: 0 at four, 1 at sixteen o'clock.
        let daytime = (0.5 - 0.5 * ((hour - 4.0) / 24.0 * std::f64::consts::TAU).cos()).powf(1.5);
        let burst: f64 = BURSTS
            .iter()
            .filter(|(begin, length, _)| (0.0..*length).contains(&(second - begin * HOUR)))
            .map(|(_, _, share)| share)
            .sum();
        self.peak * (NIGHT + (1.0 - NIGHT) * daytime + burst)
    }

    /// The most of the whole day.
    pub fn most(self) -> f64 {
        (0..SECONDS).step_by(60).map(|second| self.rate(f64::from(second))).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nights_are_quiet_days_are_busy_and_bursts_come_at_once() {
        let day = Day { peak: 100.0 };
        assert!((day.rate(4.0 * HOUR) - 8.0).abs() < 1e-9);
        assert!((day.rate(16.0 * HOUR) - 100.0).abs() < 1e-9);
        assert!(day.rate(9.5 * HOUR) - day.rate(9.5 * HOUR - 1.0) > 59.0);
        assert!(day.most() > 150.0 && day.most() < 200.0, "{}", day.most());
    }
}
