//! The draft of a model card, written next to the weights. Scores and licences are added by hand.

use crate::model::{Architecture, Config, Refresh};

/// A card with the language pair, the shape and the run's whole configuration.
pub fn draft(model: &Config, run: &str) -> String {
    let s = &model.shape;
    format!(
        "# {} → {}\n\n\
         {}: {} + {} layers, width {}, feed-forward {}, {} heads, vocabulary {}.\n\n\
         ## How it was trained\n\n```toml\n{run}```\n",
        model.source,
        model.target,
        match (model.architecture, s.refresh) {
            (Architecture::Cmlm, Refresh::All) => "CMLMC".into(),
            (architecture, _) => architecture.name().to_uppercase(),
        },
        s.encoder_layers,
        s.decoder_layers,
        s.d_model,
        s.ffn,
        s.heads,
        s.vocab,
    )
}
