//! What happens between listening and readiness: first-use costs (page faults, thread pools, kernels) are paid
//! here and not by the first caller, and it is measured how long each number of steps takes.

use std::time::{Duration, Instant};

use super::app::App;
use crate::Result;
use crate::decode::{Limits, Steps};
use crate::engine::{Item, Latencies};

/// Source tokens of the sentence that is measured, bos and eos included: a longer one than most.
const MEASURED_TOKENS: usize = 34;

/// The numbers of steps that are measured, as far as the model and the settings allow them.
const MEASURED_STEPS: [u8; 7] = [1, 2, 3, 4, 6, 10, 20];

/// Each of them so often; the median counts.
const ROUNDS: usize = 3;

/// A short and a longer sentence at the steps and the beam of most requests, then the longer one at each number of
/// steps.
pub(super) async fn warm_up(app: &App) -> Result<()> {
    let most = app.model.max_steps.min(app.settings.max_steps);
    let usual = app.model.default_steps.min(most);
    for tokens in [10, MEASURED_TOKENS] {
        translate(app, tokens, usual).await?;
    }
    let mut measured = Vec::new();
    for steps in MEASURED_STEPS.into_iter().filter_map(Steps::new).filter(|steps| *steps <= most) {
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

/// How long one sentence takes.
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
        // Keeps the measurement out of coalescing and cache.
        trace: true,
        deadline: None,
        watch: None,
    };
    let begun = Instant::now();
    for pending in app.engine.submit(vec![item])? {
        pending.await?;
    }
    Ok(begun.elapsed())
}
