//! Progress of a stage and of a whole run on standard error: bars on a terminal, otherwise a line a minute for runs of several
//! stages.
//!
//! A stage makes a [`Progress`] and advances it. A pipeline opens an [`Overall`] around each stage, which the stage does not
//! see, as a function does not see the tracing subscriber. Both belong to the thread that trains.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

use crate::train::observe::event;

/// Updates or other units done of all, and the time left.
pub struct Progress {
    bar: ProgressBar,
    unit: String,
    overall: Option<Overall>,
}

/// Between two lines where there are no bars.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

impl Progress {
    /// `done` of `count` updates (or another unit) lie behind a resumed run; the time left is reckoned from
    /// the rest.
    pub fn new(unit: &str, count: u64, done: u64) -> Self {
        let overall = Overall::current();
        let bar = ProgressBar::new(count);
        let bar = overall.as_ref().map_or(bar.clone(), |overall| overall.bars.insert(0, bar));
        let template = format!("{{bar:30}} {{pos}}/{{len}} {unit} · {{msg}}{{elapsed}} · {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_position(done);
        bar.reset_eta();
        let progress = Self { bar, unit: unit.to_owned(), overall };
        progress.tell(true);
        progress
    }

    /// Of a rank that leaves telling to another.
    pub fn silent() -> Self {
        Self { bar: ProgressBar::hidden(), unit: String::new(), overall: None }
    }

    /// One more is done.
    pub fn advance(&self) {
        self.bar.inc(1);
        self.tell(false);
    }

    pub fn show(&self, event: &event::Train) {
        self.bar.set_message(format!(
            "epoch {} · loss {:.3} · {:.0} tokens/s, {:.0} % of the matrix rate · ",
            event.epoch + 1,
            event.loss,
            event.tokens_per_second,
            100.0 * event.matrix_share
        ));
    }

    /// A line above the bar; silent where the bar is.
    pub fn say(&self, line: impl AsRef<str>) {
        self.bar.println(line);
    }

    /// A line above the bar, or on standard error where there is none: for what must not be missed.
    pub fn announce(&self, line: impl AsRef<str>) {
        self.bar.suspend(|| eprintln!("{}", line.as_ref()));
    }

    pub fn finish(&self) {
        self.bar.abandon();
    }

    fn tell(&self, first: bool) {
        let share = self.bar.position() as f64 / self.bar.length().unwrap_or(1).max(1) as f64;
        if let Some(overall) = &self.overall {
            RUN.with_borrow_mut(|run| {
                if let Some(run) = run {
                    run.clock.reach(share, first);
                    overall.total.set_position((run.clock.share() * TICKS) as u64);
                    overall.total.set_message(run.message());
                    let (position, count) = (self.bar.position(), self.bar.length().unwrap_or(0));
                    if overall.bars.is_hidden() && run.line_is_due() {
                        eprintln!("{}: {position}/{count} {}", run.message(), self.unit);
                    }
                }
            });
        }
    }
}

/// Steps of the bar over all stages.
const TICKS: f64 = 10_000.0;

thread_local! {
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

struct Run {
    overall: Overall,
    clock: Clock,
    /// `stage 2 of 3, cmlm`.
    stage: String,
    last_line: Instant,
}

impl Run {
    fn line_is_due(&mut self) -> bool {
        let due = self.last_line.elapsed() >= BETWEEN_LINES;
        if due {
            self.last_line = Instant::now();
        }
        due
    }

    fn message(&self) -> String {
        match self.clock.left() {
            Some(left) => format!("{} · about {} left in all", self.stage, HumanDuration(left)),
            None => self.stage.clone(),
        }
    }
}

/// The view over all stages of a run; closed when dropped.
#[derive(Clone)]
pub struct Overall {
    bars: MultiProgress,
    total: ProgressBar,
}

impl Overall {
    /// `work` is what all stages cost together, in any unit.
    pub fn open(work: f64) -> Opened {
        let bars = MultiProgress::new();
        let total = bars.add(ProgressBar::new(TICKS as u64));
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent} % of all · {msg}") {
            total.set_style(style);
        }
        let overall = Self { bars, total };
        let clock = Clock::new(work);
        let run = Run { overall: overall.clone(), clock, stage: String::new(), last_line: Instant::now() };
        RUN.set(Some(run));
        Opened(overall)
    }

    fn current() -> Option<Self> {
        RUN.with_borrow(|run| run.as_ref().map(|run| run.overall.clone()))
    }
}

/// What the present stage does from here on is part `number`, from 1, of `parts` equal ones.
pub fn part(number: u32, parts: u32) {
    RUN.with_borrow_mut(|run| {
        if let Some(run) = run {
            run.clock.part = (number.saturating_sub(1), parts.max(1));
        }
    });
}

/// Keeps the view open.
pub struct Opened(Overall);

impl Opened {
    /// The next stage begins; `work` is its part of the whole.
    pub fn stage(&self, name: String, work: f64) {
        RUN.with_borrow_mut(|run| {
            if let Some(run) = run {
                run.clock.enter(work);
                run.stage = name;
                self.0.total.set_message(run.message());
            }
        });
    }

    /// The stage is done, or needed nothing to be done.
    pub fn done(&self) {
        RUN.with_borrow_mut(|run| {
            if let Some(run) = run {
                run.clock.leave();
                self.0.total.set_position((run.clock.share() * TICKS) as u64);
            }
        });
    }

    /// A line above the bars, or on standard error where there are none.
    pub fn say(&self, line: impl AsRef<str>) {
        self.0.bars.suspend(|| eprintln!("{}", line.as_ref()));
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.total.finish_and_clear();
        RUN.set(None);
    }
}

/// The time left at the present rate.
#[derive(Debug)]
struct Clock {
    /// Of all stages, and of those that lie behind.
    total: f64,
    behind: f64,
    /// Of the present stage, and how much of it is done.
    stage: f64,
    share: f64,
    /// Parts of the stage that lie behind, and all of them.
    part: (u32, u32),
    /// Where this process found the stage, and when: what it did before cost this process no time.
    begin: Option<(f64, Instant)>,
    /// Work and time of this process in the stages before.
    worked: f64,
    seconds: f64,
}

impl Clock {
    fn new(total: f64) -> Self {
        Self {
            total,
            behind: 0.0,
            stage: 0.0,
            share: 0.0,
            part: (0, 1),
            begin: None,
            worked: 0.0,
            seconds: 0.0,
        }
    }

    fn enter(&mut self, work: f64) {
        (self.stage, self.share, self.part, self.begin) = (work, 0.0, (0, 1), None);
    }

    /// The stage, or the present part of it, has done `share` of its work; the first call says where it was found.
    fn reach(&mut self, share: f64, first: bool) {
        let (behind, parts) = self.part;
        self.share = (f64::from(behind) + share.clamp(0.0, 1.0)) / f64::from(parts);
        if first && self.begin.is_none() {
            self.begin = Some((self.share, Instant::now()));
        }
    }

    fn leave(&mut self) {
        let (worked, seconds) = self.present();
        self.worked += worked;
        self.seconds += seconds;
        self.behind += self.stage;
        self.enter(0.0);
    }

    /// Work and time of this process in the present stage.
    fn present(&self) -> (f64, f64) {
        self.begin.map_or((0.0, 0.0), |(share, since)| {
            (self.stage * (self.share - share), since.elapsed().as_secs_f64())
        })
    }

    fn finished(&self) -> f64 {
        self.behind + self.stage * self.share
    }

    /// Of all work.
    fn share(&self) -> f64 {
        (self.finished() / self.total.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }

    /// `None` before there is anything to go by.
    fn left(&self) -> Option<Duration> {
        let (worked, seconds) = self.present();
        let (worked, seconds) = (self.worked + worked, self.seconds + seconds);
        let left = (self.total - self.finished()).max(0.0);
        (worked > 0.0).then(|| Duration::try_from_secs_f64(left * seconds / worked).ok()).flatten()
    }
}

#[cfg(test)]
mod tests;
