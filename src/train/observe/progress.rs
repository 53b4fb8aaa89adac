//! Shows progress on standard error: bars on a terminal; otherwise, for runs of several stages, one line a minute.
//!
//! A stage creates a [`Progress`] and advances it. A pipeline opens an [`Overall`] around each stage. The stage finds
//! it in a thread-local variable, so both must be used on the training thread.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

use crate::train::observe::event;

/// Number of finished updates (or other units) of a stage, and the time left.
pub struct Progress {
    bar: ProgressBar,
    unit: String,
    overall: Option<Overall>,
}

/// Interval of lines where there are no bars.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

impl Progress {
    /// `done` of `count` units were finished before a resumed run; the estimate of the time left ignores them.
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
        progress.refresh(true);
        progress
    }

    /// Shows nothing. For ranks other than the first.
    pub fn silent() -> Self {
        Self { bar: ProgressBar::hidden(), unit: String::new(), overall: None }
    }

    /// Counts one more unit.
    pub fn advance(&self) {
        self.bar.inc(1);
        self.refresh(false);
    }

    pub fn show(&self, event: &event::Train) {
        self.bar.set_message(format!(
            "epoch {} · loss {:.3} · {:.0} tokens/s, {:.0} % of the rate of one large product · ",
            event.epoch + 1,
            event.loss,
            event.tokens_per_second,
            100.0 * event.matrix_share
        ));
    }

    /// Prints a line above the bar; nothing without a terminal.
    pub fn print(&self, line: impl AsRef<str>) {
        self.bar.println(line);
    }

    /// Prints a line above the bar, or on standard error without a terminal: for important messages.
    pub fn announce(&self, line: impl AsRef<str>) {
        self.bar.suspend(|| eprintln!("{}", line.as_ref()));
    }

    pub fn finish(&self) {
        self.bar.abandon();
    }

    fn refresh(&self, first: bool) {
        let share = self.bar.position() as f64 / self.bar.length().unwrap_or(1).max(1) as f64;
        if let Some(overall) = &self.overall {
            OVERALL.with_borrow_mut(|run| {
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

/// Resolution of the bar over all stages.
const TICKS: f64 = 10_000.0;

thread_local! {
    static OVERALL: RefCell<Option<OverallState>> = const { RefCell::new(None) };
}

struct OverallState {
    overall: Overall,
    clock: Clock,
    /// Such as `stage 2 of 3, parallel`.
    stage: String,
    last_line: Instant,
}

impl OverallState {
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

/// The bars over all stages of a run.
#[derive(Clone)]
pub struct Overall {
    bars: MultiProgress,
    total: ProgressBar,
}

impl Overall {
    /// `work` is the total cost of all stages, in any unit.
    pub fn open(work: f64) -> OverallGuard {
        let bars = MultiProgress::new();
        let total = bars.add(ProgressBar::new(TICKS as u64));
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent} % of all · {msg}") {
            total.set_style(style);
        }
        let overall = Self { bars, total };
        let clock = Clock::new(work);
        let run =
            OverallState { overall: overall.clone(), clock, stage: String::new(), last_line: Instant::now() };
        OVERALL.set(Some(run));
        OverallGuard(overall)
    }

    fn current() -> Option<Self> {
        OVERALL.with_borrow(|run| run.as_ref().map(|run| run.overall.clone()))
    }
}

/// From here on, the current stage works on part `number`, from 1, of `parts` equal ones.
pub fn part(number: u32, parts: u32) {
    OVERALL.with_borrow_mut(|run| {
        if let Some(run) = run {
            run.clock.part = (number.saturating_sub(1), parts.max(1));
        }
    });
}

/// Closes the view when dropped.
pub struct OverallGuard(Overall);

impl OverallGuard {
    /// Starts the next stage; `work` is its share of the total.
    pub fn stage(&self, name: String, work: f64) {
        OVERALL.with_borrow_mut(|run| {
            if let Some(run) = run {
                run.clock.enter(work);
                run.stage = name;
                self.0.total.set_message(run.message());
            }
        });
    }

    /// Ends the stage, whether it did anything or not.
    pub fn done(&self) {
        OVERALL.with_borrow_mut(|run| {
            if let Some(run) = run {
                run.clock.leave();
                self.0.total.set_position((run.clock.share() * TICKS) as u64);
            }
        });
    }

    /// Prints a line above the bars, or on standard error without a terminal.
    pub fn print(&self, line: impl AsRef<str>) {
        self.0.bars.suspend(|| eprintln!("{}", line.as_ref()));
    }
}

impl Drop for OverallGuard {
    fn drop(&mut self) {
        self.0.total.finish_and_clear();
        OVERALL.set(None);
    }
}

/// Estimates the time left from the rate so far.
#[derive(Debug)]
struct Clock {
    /// Work of all stages, and of the completed ones.
    total: f64,
    completed: f64,
    /// Work of the current stage, and the share of it that is done.
    stage: f64,
    share: f64,
    /// Number of finished parts of the stage, and of all its parts.
    part: (u32, u32),
    /// The share at which this process started the stage, and when. Work of earlier processes took no time of this
    /// one.
    begin: Option<(f64, Instant)>,
    /// Work and time of this process in finished stages.
    worked: f64,
    seconds: f64,
}

impl Clock {
    fn new(total: f64) -> Self {
        Self {
            total,
            completed: 0.0,
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

    /// Sets the share of the stage, or of its current part, that is done. `first` marks where this process started.
    fn reach(&mut self, share: f64, first: bool) {
        let (completed, parts) = self.part;
        self.share = (f64::from(completed) + share.clamp(0.0, 1.0)) / f64::from(parts);
        if first && self.begin.is_none() {
            self.begin = Some((self.share, Instant::now()));
        }
    }

    fn leave(&mut self) {
        let (worked, seconds) = self.present();
        self.worked += worked;
        self.seconds += seconds;
        self.completed += self.stage;
        self.enter(0.0);
    }

    /// Work and time of this process in the current stage.
    fn present(&self) -> (f64, f64) {
        self.begin.map_or((0.0, 0.0), |(share, since)| {
            (self.stage * (self.share - share), since.elapsed().as_secs_f64())
        })
    }

    fn finished(&self) -> f64 {
        self.completed + self.stage * self.share
    }

    /// Share of the total work that is done.
    fn share(&self) -> f64 {
        (self.finished() / self.total.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }

    /// `None` before any work is done.
    fn left(&self) -> Option<Duration> {
        let (worked, seconds) = self.present();
        let (worked, seconds) = (self.worked + worked, self.seconds + seconds);
        let left = (self.total - self.finished()).max(0.0);
        (worked > 0.0).then(|| Duration::try_from_secs_f64(left * seconds / worked).ok()).flatten()
    }
}

#[cfg(test)]
mod tests;
