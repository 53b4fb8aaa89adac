//! One pod: requests wait, the model takes all that wait (up to a batch) whenever it is free, and what Prometheus
//! scrapes counts along. A batch of n sentences takes `first + (n - 1) × each` seconds, the two being measured.

use std::collections::VecDeque;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// What the server lets wait.
const MAX_QUEUE: usize = 2048;
const MAX_BATCH: usize = 64;
/// Seconds over which rates are taken, as in the adapter's queries.
const WINDOW_SECONDS: f64 = 60.0;
/// Upper bounds of the buckets of `tutti_http_request_duration_seconds`; a test holds them against the server's.
pub const BUCKETS: [f64; 24] = [
    0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04,
    0.05, 0.065, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// Seconds of one pass through the model.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// A sentence alone.
    pub first: f64,
    /// Each further one in the batch.
    pub each: f64,
}

impl Service {
    /// Sentences a second in full batches.
    pub fn capacity(self) -> f64 {
        MAX_BATCH as f64 / self.batch(MAX_BATCH)
    }

    fn batch(self, sentences: usize) -> f64 {
        self.first + self.each * (sentences.saturating_sub(1)) as f64
    }
}

/// What Prometheus knows of a pod at one scrape.
#[derive(Clone)]
struct Scrape {
    at: f64,
    waiting: usize,
    busy: f64,
    /// Answers up to each bound of [`BUCKETS`], and all.
    answers: [u64; BUCKETS.len() + 1],
}

pub struct Pod {
    pub ready_at: f64,
    /// When each waiting request came.
    waiting: VecDeque<f64>,
    free_at: f64,
    busy: f64,
    answers: [u64; BUCKETS.len() + 1],
    scrapes: VecDeque<Scrape>,
}

/// Called with the time of an answer and its latency in seconds.
pub trait Sink {
    fn answered(&mut self, at: f64, latency: f64);
    fn refused(&mut self, at: f64);
}

impl Pod {
    pub fn new(ready_at: f64) -> Self {
        Self {
            ready_at,
            waiting: VecDeque::new(),
            free_at: ready_at,
            busy: 0.0,
            answers: [0; BUCKETS.len() + 1],
            scrapes: VecDeque::new(),
        }
    }

    /// From `from` to `until`, with requests of a Poisson process.
    pub fn advance(
        &mut self,
        from: f64,
        until: f64,
        rate: f64,
        service: Service,
        random: &mut ChaCha8Rng,
        sink: &mut impl Sink,
    ) {
        let mut at = from;
        loop {
            at = if rate > 0.0 { at - (1.0 - random.random::<f64>()).ln() / rate } else { f64::INFINITY };
            self.work(at.min(until), service, sink);
            if at >= until {
                return;
            }
            if self.waiting.len() < MAX_QUEUE {
                self.waiting.push_back(at);
            } else {
                sink.refused(at);
            }
        }
    }

    /// Finishes what waits: the pod is taken out of service. Gives the time of its end.
    pub fn drain(&mut self, now: f64, service: Service, sink: &mut impl Sink) -> f64 {
        self.work(f64::INFINITY, service, sink);
        self.free_at.max(now)
    }

    /// All batches that begin before `until`.
    fn work(&mut self, until: f64, service: Service, sink: &mut impl Sink) {
        while let Some(&oldest) = self.waiting.front() {
            let begin = self.free_at.max(oldest);
            if begin >= until {
                return;
            }
            let size = self.waiting.len().min(MAX_BATCH);
            let took = service.batch(size);
            self.free_at = begin + took;
            self.busy += took;
            for came in self.waiting.drain(..size) {
                let latency = self.free_at - came;
                sink.answered(self.free_at, latency);
                let bucket = BUCKETS.partition_point(|bound| *bound < latency);
                self.answers[bucket] += 1;
            }
        }
    }

    pub fn scrape(&mut self, now: f64) {
        let (waiting, busy, answers) = (self.waiting.len(), self.busy, self.answers);
        self.scrapes.push_back(Scrape { at: now, waiting, busy, answers });
        while self.scrapes.front().is_some_and(|scrape| scrape.at < now - WINDOW_SECONDS) {
            self.scrapes.pop_front();
        }
    }

    fn window(&self) -> Option<(&Scrape, &Scrape)> {
        Some((self.scrapes.front()?, self.scrapes.back()?))
    }

    /// At the last scrape; none before the first.
    pub fn queue_depth(&self) -> Option<f64> {
        Some(self.scrapes.back()?.waiting as f64)
    }

    /// 0 to 1; none before a second scrape.
    pub fn saturation(&self) -> Option<f64> {
        let (first, last) = self.window()?;
        (last.at > first.at).then(|| (last.busy - first.busy) / (last.at - first.at))
    }

    /// Seconds, as `histogram_quantile` has it; 0 without an answer in the window, none before a second scrape.
    pub fn p95(&self) -> Option<f64> {
        let (first, last) = self.window()?;
        if last.at <= first.at {
            return None;
        }
        let counts = std::array::from_fn(|bucket| last.answers[bucket] - first.answers[bucket]);
        Some(quantile(0.95, &counts))
    }
}

/// Linear within a bucket; the last bound for what lies above it. Counts are those of each bucket alone.
fn quantile(q: f64, counts: &[u64; BUCKETS.len() + 1]) -> f64 {
    let rank = q * counts.iter().sum::<u64>() as f64;
    let mut below = 0.0;
    let mut low = 0.0;
    for (&count, &bound) in counts.iter().zip(&BUCKETS) {
        let count = count as f64;
        if count > 0.0 && below + count >= rank {
            return low + (bound - low) * (rank - below) / count;
        }
        (below, low) = (below + count, bound);
    }
    if below < rank { low } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[derive(Default)]
    struct Counts {
        latencies: Vec<f64>,
        refused: usize,
    }

    impl Sink for Counts {
        fn answered(&mut self, _: f64, latency: f64) {
            self.latencies.push(latency);
        }
        fn refused(&mut self, _: f64) {
            self.refused += 1;
        }
    }

    const SERVICE: Service = Service { first: 0.01, each: 0.001 };

    fn run(rate: f64, seconds: u32) -> (Pod, Counts) {
        let (mut pod, mut counts) = (Pod::new(0.0), Counts::default());
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for second in 0..seconds {
            let second = f64::from(second);
            pod.advance(second, second + 1.0, rate, SERVICE, &mut random, &mut counts);
            if second % 15.0 == 14.0 {
                pod.scrape(second + 1.0);
            }
        }
        (pod, counts)
    }

    #[test]
    fn a_request_alone_takes_the_time_of_one_sentence() {
        let (_, counts) = run(0.5, 600);
        let alone = counts.latencies.iter().filter(|latency| (*latency - 0.01).abs() < 1e-9).count();
        assert!(alone * 20 > counts.latencies.len() * 19, "{alone} of {}", counts.latencies.len());
    }

    #[test]
    fn load_below_capacity_is_answered_and_seen_as_saturation() {
        let (mut pod, mut counts) = run(400.0, 120);
        pod.drain(120.0, SERVICE, &mut counts);
        assert_eq!(counts.refused, 0);
        let expected = 400.0 * 120.0;
        assert!((counts.latencies.len() as f64 / expected - 1.0).abs() < 0.02);
        let (saturation, p95) = (pod.saturation().unwrap(), pod.p95().unwrap());
        assert!(saturation > 0.5 && saturation <= 1.01, "{saturation}");
        assert!(p95 > 0.01 && p95 < 0.1, "{p95}");
    }

    #[test]
    fn twice_the_capacity_fills_the_queue_and_the_rest_is_refused() {
        let (pod, counts) = run(2.0 * SERVICE.capacity(), 60);
        assert_eq!(pod.queue_depth().unwrap() as usize / 100, MAX_QUEUE / 100);
        let answered = counts.latencies.len() as f64;
        assert!((answered / (60.0 * SERVICE.capacity()) - 1.0).abs() < 0.05, "{answered}");
        assert!((counts.refused as f64 + MAX_QUEUE as f64 - answered).abs() < 0.1 * answered);
    }

    #[test]
    fn buckets_are_those_of_the_server() {
        let metrics = tutti::metrics::Metrics::new();
        let _http = metrics.http(&["/translate"]);
        let prefix = "tutti_http_request_duration_seconds_bucket{route=\"/translate\",le=\"";
        let text = metrics.render();
        let bounds =
            text.lines().filter_map(|line| line.strip_prefix(prefix)?.split('"').next()?.parse().ok());
        let bounds: Vec<f64> = bounds.filter(|bound: &f64| bound.is_finite()).collect();
        assert_eq!(bounds, BUCKETS);
    }

    #[test]
    fn the_quantile_is_that_of_prometheus() {
        let mut counts = [0; BUCKETS.len() + 1];
        assert_eq!(quantile(0.95, &counts), 0.0);
        // 0.1 to 0.25 seconds.
        counts[19] = 100;
        assert!((quantile(0.95, &counts) - 0.2425).abs() < 1e-9);
        counts[BUCKETS.len()] = 1000;
        assert_eq!(quantile(0.95, &counts), 10.0);
    }
}
