//! The model card that a run writes next to its weights. A person adds scores and licences.

use crate::model::{Architecture, Config, Refresh};

/// A card with what the run itself knows: pair, shape, and its whole configuration.
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
