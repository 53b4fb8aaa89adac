//! The first translations of a server, before it is ready.

use super::app::App;
use crate::Result;
use crate::decode::Limits;
use crate::engine::Item;

/// A short and a longer sentence, at the steps and the beam of most requests.
pub(super) async fn warm_up(app: &App) -> Result<()> {
    let Limits { source_tokens, .. } = app.engine.limits();
    let specials = app.model.tokenizer.specials();
    let word = app.model.tokenizer.encode("tutti")?;
    let word = word.iter().filter(|id| !specials.ids().contains(id));
    for tokens in [8, 32] {
        let words = word.clone().copied().cycle().take(tokens.min(source_tokens.saturating_sub(2)));
        let item = Item {
            source: std::iter::once(specials.bos).chain(words).chain([specials.eos]).collect(),
            steps: app.model.default_steps.min(app.settings.max_steps),
            length_beam: app.default_length_beam(),
            collapse: true,
            trace: false,
            deadline: None,
            watch: None,
        };
        for pending in app.engine.submit(vec![item])? {
            pending.await?;
        }
    }
    Ok(())
}
