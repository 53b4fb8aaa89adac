//! The warm-up before the server is ready: pays first-use costs (page faults, thread pools, kernels) instead of
//! the first client, and measures how long a sentence takes with each number of steps.

use std::time::{Duration, Instant};

use super::app::App;
use crate::Result;
use crate::decode::{Limits, Steps};
use crate::engine::{Item, Latencies};

/// Source tokens of the measured sentence, including bos and eos; longer than most sentences.
const MEASURED_TOKENS: usize = 34;

/// The measured numbers of steps, up to the maximum of model and settings.
const MEASURED_STEPS: [u8; 7] = [1, 2, 3, 4, 6, 10, 20];

/// Measurements of each number of steps; the median counts.
const ROUNDS: usize = 3;

/// Translates a short and a longer sentence with the default steps, then the longer one with each number of steps.
pub(super) async fn warm_up(app: &App) -> Result<()> {
    let max = app.model.max_steps.min(app.settings.max_steps);
    let default = app.model.default_steps.min(max);
    for tokens in [10, MEASURED_TOKENS] {
        translate(app, tokens, default).await?;
    }
    let mut measured = Vec::new();
    for steps in MEASURED_STEPS.into_iter().filter_map(Steps::new).filter(|steps| *steps <= max) {
        let mut times = [Duration::ZERO; ROUNDS];
        for time in &mut times {
            *time = translate(app, MEASURED_TOKENS, steps).await?;
        }
        times.sort_unstable();
        measured.push((steps, times[ROUNDS / 2]));
    }
    app.engine.calibrate(Latencies::new(measured, MEASURED_TOKENS));
    Ok(())
}

/// Translates one sentence and returns the time it takes.
async fn translate(app: &App, tokens: usize, steps: Steps) -> Result<Duration> {
    let Limits { source_tokens, .. } = app.engine.limits();
    let specials = app.model.tokenizer.specials();
    let word = app.model.tokenizer.encode("tutti")?;
    let word = word.iter().filter(|id| !specials.ids().contains(id));
    let words = word.copied().cycle().take(tokens.min(source_tokens).saturating_sub(2));
    let item = Item {
        source: std::iter::once(specials.bos).chain(words).chain([specials.eos]).collect(),
        steps,
        steps_min: steps,
        length_beam: app.default_length_beam(),
        alternatives: 0,
        collapse: true,
        // A traced sentence is not coalesced or cached.
        trace: true,
        deadline: None,
        watch: None,
        schedule: false,
    };
    let started = Instant::now();
    for pending in app.engine.submit(vec![item])? {
        pending.await?;
    }
    Ok(started.elapsed())
}
