//! The decisions of a HorizontalPodAutoscaler (autoscaling/v2), as kube-controller-manager takes them: the formula
//! `ceil(pods × metric / target)` with its tolerance and its rules for pods without metrics, then the stabilization
//! windows, then the scaling policies.

use std::collections::VecDeque;

/// Relative, around the target; a flag of the controller whose default is this.
pub const TOLERANCE: f64 = 0.1;
/// Seconds between two decisions; likewise.
pub const SYNC_SECONDS: u32 = 15;

/// How fast the number of pods may change in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub stabilization_seconds: f64,
    pub step: Step,
    pub period_seconds: f64,
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Percent(f64),
    Pods(u32),
}

#[derive(Clone, Copy, Debug)]
pub struct Behavior {
    pub min: u32,
    pub max: u32,
    pub up: Rules,
    pub down: Rules,
}

/// One metric of type `Pods` with an `AverageValue`.
pub struct Observed<'a> {
    /// Of the pods that have reported.
    pub values: &'a [f64],
    /// Pods that are still starting.
    pub pending: usize,
    /// Pods that run and have not been scraped yet.
    pub missing: usize,
    pub target: f64,
}

impl Observed<'_> {
    /// The number of pods that the metric asks for; `current` without metrics or within the tolerance.
    /// (`calcPlainMetricReplicas` in replica_calculator.go.)
    pub fn replicas(&self, current: u32) -> u32 {
        let sum: f64 = self.values.iter().sum();
        if self.values.is_empty() {
            return current;
        }
        let ratio = sum / self.values.len() as f64 / self.target;
        let count_pending = self.pending > 0 && ratio > 1.0;
        if !count_pending && self.missing == 0 {
            return if within_tolerance(ratio) { current } else { pods(ratio * self.values.len() as f64) };
        }
        // Missing pods count as being at the target when there is less to do, as idle when there is more.
        let missing = self.missing as f64 * if ratio < 1.0 { self.target } else { 0.0 };
        let counted = self.values.len() + self.missing + if count_pending { self.pending } else { 0 };
        let guarded = (sum + missing) / counted as f64 / self.target;
        if within_tolerance(guarded) || (ratio < 1.0) != (guarded < 1.0) {
            return current;
        }
        let wanted = pods(guarded * counted as f64);
        let turns = if guarded < 1.0 { wanted > current } else { wanted < current };
        if turns { current } else { wanted }
    }
}

fn within_tolerance(ratio: f64) -> bool {
    (1.0 - ratio).abs() <= TOLERANCE
}

fn pods(count: f64) -> u32 {
    // Casts saturate; a pod more for the last bit of a float would be wrong.
    (count - 1e-9).ceil() as u32
}

/// The state of one autoscaler.
pub struct Autoscaler {
    behavior: Behavior,
    /// What was asked for, and when.
    recommended: VecDeque<(f64, u32)>,
    /// By how much the number of pods changed, and when.
    changes: VecDeque<(f64, i64)>,
}

impl Autoscaler {
    pub fn new(behavior: Behavior) -> Self {
        Self { behavior, recommended: VecDeque::new(), changes: VecDeque::new() }
    }

    /// The number of pods from now on. Of several metrics the one that asks for most wins.
    pub fn decide(&mut self, now: f64, current: u32, metrics: &[Observed<'_>]) -> u32 {
        let Behavior { min, max, up, down } = self.behavior;
        let asked = metrics.iter().map(|metric| metric.replicas(current)).max().unwrap_or(current);
        let stable = self.stabilized(now, current, asked.clamp(min, max));
        let next = if stable > current {
            let start = self.at_period_start(now, current, up.period_seconds);
            let most = match up.step {
                Step::Percent(percent) => pods(start * (1.0 + percent / 100.0)),
                Step::Pods(count) => pods(start + f64::from(count)),
            };
            stable.min(most.max(current))
        } else {
            let start = self.at_period_start(now, current, down.period_seconds);
            let least = match down.step {
                Step::Percent(percent) => (start * (1.0 - percent / 100.0)) as u32,
                Step::Pods(count) => (start - f64::from(count)).max(0.0) as u32,
            };
            stable.max(least.min(current))
        };
        let next = next.clamp(min, max);
        if next != current {
            self.changes.push_back((now, i64::from(next) - i64::from(current)));
        }
        next
    }

    /// No fewer pods than were asked for in the last while, and no more.
    fn stabilized(&mut self, now: f64, current: u32, asked: u32) -> u32 {
        let Behavior { up, down, .. } = self.behavior;
        let longest = up.stabilization_seconds.max(down.stabilization_seconds);
        while self.recommended.front().is_some_and(|(at, _)| *at <= now - longest) {
            self.recommended.pop_front();
        }
        let since = |seconds: f64| {
            self.recommended.iter().filter(move |(at, _)| *at > now - seconds).map(|(_, asked)| *asked)
        };
        let floor = since(up.stabilization_seconds).fold(asked, u32::min);
        let ceiling = since(down.stabilization_seconds).fold(asked, u32::max);
        self.recommended.push_back((now, asked));
        current.max(floor).min(ceiling)
    }

    fn at_period_start(&mut self, now: f64, current: u32, period: f64) -> f64 {
        let longest = self.behavior.up.period_seconds.max(self.behavior.down.period_seconds);
        while self.changes.front().is_some_and(|(at, _)| *at <= now - longest) {
            self.changes.pop_front();
        }
        let changed: i64 =
            self.changes.iter().filter(|(at, _)| *at > now - period).map(|(_, change)| change).sum();
        (i64::from(current) - changed) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(values: &[f64], pending: usize, missing: usize) -> Observed<'_> {
        Observed { values, pending, missing, target: 10.0 }
    }

    fn behavior() -> Behavior {
        let up = Rules { stabilization_seconds: 0.0, step: Step::Percent(100.0), period_seconds: 30.0 };
        let down = Rules { stabilization_seconds: 300.0, step: Step::Pods(1), period_seconds: 60.0 };
        Behavior { min: 2, max: 10, up, down }
    }

    #[test]
    fn the_formula_rounds_up_and_tolerates_a_tenth() {
        assert_eq!(observed(&[10.9, 10.9], 0, 0).replicas(2), 2);
        assert_eq!(observed(&[11.2, 11.2], 0, 0).replicas(2), 3);
        assert_eq!(observed(&[20.0, 20.0], 0, 0).replicas(2), 4);
        assert_eq!(observed(&[5.0, 5.0, 5.0, 5.0], 0, 0).replicas(4), 2);
        assert_eq!(observed(&[], 2, 0).replicas(2), 2);
    }

    #[test]
    fn pods_that_start_count_as_idle_when_more_are_asked_for() {
        // Twice too much on two pods, and two more on their way: enough.
        assert_eq!(observed(&[20.0, 20.0], 2, 0).replicas(4), 4);
        assert_eq!(observed(&[40.0, 40.0], 2, 0).replicas(4), 8);
        // Nothing to do: a pod without metrics counts as busy.
        assert_eq!(observed(&[5.0, 5.0], 0, 2).replicas(4), 3);
    }

    #[test]
    fn doubling_is_the_most_in_one_period() {
        let mut autoscaler = Autoscaler::new(behavior());
        let busy = |autoscaler: &mut Autoscaler, now, current: u32| {
            autoscaler.decide(now, current, &[observed(&vec![90.0; current as usize], 0, 0)])
        };
        assert_eq!(busy(&mut autoscaler, 0.0, 2), 4);
        assert_eq!(busy(&mut autoscaler, 15.0, 4), 4);
        assert_eq!(busy(&mut autoscaler, 30.0, 4), 8);
        assert_eq!(busy(&mut autoscaler, 60.0, 8), 10);
    }

    #[test]
    fn pods_go_one_by_one_after_five_quiet_minutes() {
        let mut autoscaler = Autoscaler::new(behavior());
        let mut current = 4;
        let mut went = Vec::new();
        for tick in 0..60 {
            let now = f64::from(tick) * 15.0;
            let value = if tick == 0 { 10.0 } else { 0.0 };
            let next = autoscaler.decide(now, current, &[observed(&vec![value; current as usize], 0, 0)]);
            if next != current {
                went.push((now, next));
            }
            current = next;
        }
        assert_eq!(went, [(300.0, 3), (360.0, 2)]);
    }

    #[test]
    fn the_metric_that_asks_for_most_wins() {
        let mut autoscaler = Autoscaler::new(behavior());
        let low = observed(&[1.0, 1.0], 0, 0);
        assert_eq!(autoscaler.decide(0.0, 2, &[low, observed(&[14.0, 14.0], 0, 0)]), 3);
    }

    /// The simulated autoscaler is the one that is deployed.
    #[test]
    fn the_manifest_says_the_same() {
        let manifest = include_str!("../../config/kubernetes/components/autoscaling/autoscaler.yaml");
        for line in [
            "minReplicas: 2",
            "maxReplicas: 10",
            "stabilizationWindowSeconds: 0",
            "{type: Percent, value: 100, periodSeconds: 30}",
            "stabilizationWindowSeconds: 300",
            "{type: Pods, value: 1, periodSeconds: 60}",
        ] {
            assert!(manifest.contains(line), "{line}");
        }
    }
}
