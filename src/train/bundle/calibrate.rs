//! Corrections of a network's logits, applied when its bundle is written.
//!
//! `scale`: a student of sharpened distributions is overconfident. That does not change its best tokens, but makes
//! comparisons of candidates of different lengths worse.
//!
//! `blank_penalty`: if a token fits two slots, each may hold half of its probability, and the blank wins in both. The
//! penalty makes the translations of such an Imputer longer.
//!
//! The copy may also have another number type ([`Stored`]).

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::model::Tensors;
use crate::model::{Architecture, Bundle, Config as ModelConfig, NormPlace, Shape, Stored};
use crate::{Error, Result, files};

const OUTPUT_BIAS: &str = "output.bias";

/// The size of the corrections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Factor on all logits, above 0; 1 for no change.
    pub scale: f64,
    /// Subtracted from the blank's logit after scaling, in nats; 0 for no change.
    pub blank_penalty: f64,
}

impl Calibration {
    pub const NONE: Self = Self { scale: 1.0, blank_penalty: 0.0 };

    /// # Errors
    /// [`Error::Config`] for values out of range, or a penalty for a network without a blank.
    fn validate(&self, shape: &Shape) -> Result<()> {
        let Self { scale, blank_penalty } = *self;
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::Config(format!("the output scale must be more than 0, not {scale}")));
        }
        if !blank_penalty.is_finite() {
            return Err(Error::Config(format!(
                "the blank penalty must be a finite number, not {blank_penalty}"
            )));
        }
        if blank_penalty != 0.0 && !shape.has_blanks() {
            let reason = "a blank penalty is for an Imputer; this model has no blank";
            return Err(Error::Config(reason.into()));
        }
        Ok(())
    }

    /// Applies the corrections: changes the weights of the last norm and the output bias.
    ///
    /// # Errors
    /// [`Error::Config`] for values out of range, or a penalty for a network without a blank.
    pub fn of(&self, weights: &Tensors, model: &ModelConfig) -> Result<Tensors> {
        self.validate(&model.shape)?;
        let mut weights = scaled(weights, &model.shape, self.scale)?;
        if self.blank_penalty != 0.0
            && let Some(bias) = weights.get_mut(OUTPUT_BIAS)
        {
            let mut penalty = vec![0f32; model.shape.vocab];
            penalty[model.specials.blank() as usize] = self.blank_penalty as f32;
            let penalty = Tensor::new(penalty, &Device::Cpu)?.to_device(bias.device())?;
            *bias = (&*bias - penalty)?;
        }
        Ok(weights)
    }
}

/// Writes a corrected copy of a bundle, `stored` as asked or like the bundle. Shortlist, language model and card are
/// kept, and the card describes what was changed. Scores are removed if there is a correction.
///
/// # Errors
/// Those of [`Calibration::of`] and [`Bundle::save_as`]; an output folder that is the bundle itself; an autoregressive
/// model in q8.
pub fn calibrate(
    bundle: &Bundle,
    calibration: Calibration,
    stored: Option<Stored>,
    output: &Path,
) -> Result<()> {
    let same = output.canonicalize().is_ok_and(|path| bundle.dir.canonicalize().is_ok_and(|dir| dir == path));
    if same {
        let reason = format!("{} is the bundle itself; choose another folder", output.display());
        return Err(Error::Config(reason));
    }
    if stored == Some(Stored::Q8) && bundle.config.architecture == Architecture::Ar {
        return Err(Error::bundle(
            &bundle.dir,
            "an autoregressive model is not translated in q8, so storing it in q8 would change its translations",
        ));
    }
    let corrected = calibration != Calibration::NONE;
    let mut config = bundle.config.clone();
    if corrected {
        config.scores.clear();
    }
    let tensors = bundle.tensors().iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    let read = |name: &str| {
        let path = bundle.dir.join(name);
        std::fs::read(&path).map_err(Error::io(&path))
    };
    let mut card = match bundle.dir.join(Bundle::CARD).exists() {
        true => String::from_utf8_lossy(&read(Bundle::CARD)?).into_owned(),
        false => String::new(),
    };
    let optional = [(Bundle::SHORTLIST, bundle.shortlist.is_some()), (Bundle::LM, bundle.lm.is_some())];
    let present = optional.into_iter().filter(|&(_, present)| present);
    let kept = present.map(|(name, _)| Ok((name, read(name)?))).collect::<Result<Vec<_>>>()?;
    if corrected {
        let Calibration { scale, blank_penalty } = calibration;
        card += &format!("\n## Calibrated\n\nOutput scale {scale}, blank penalty {blank_penalty}.\n");
    }
    let stored = stored.unwrap_or(bundle.stored);
    if stored != bundle.stored {
        card += &format!("\n## Number type\n\nThe matrices of the layers are stored in {}.\n", stored.name());
    }
    let tensors = calibration.of(&tensors, &config)?;
    Bundle::save_as(output, &config, &bundle.tokenizer, &tensors, &card, stored)?;
    kept.into_iter().try_for_each(|(name, bytes)| files::write(&output.join(name), &bytes))
}

/// Scales the logits by scaling the last norm and the output bias. The best tokens stay the same.
fn scaled(weights: &Tensors, shape: &Shape, scale: f64) -> Result<Tensors> {
    let norm = match shape.norm {
        NormPlace::Pre => "decoder.norm".to_string(),
        NormPlace::Post => {
            format!("decoder.layers.{}.feed_forward_norm", shape.decoder_layers.saturating_sub(1))
        }
    };
    let logits = [format!("{norm}.weight"), format!("{norm}.bias"), OUTPUT_BIAS.to_string()];
    let scale = |(name, tensor): (&String, &Tensor)| {
        let tensor = if logits.contains(name) { (tensor * scale)? } else { tensor.clone() };
        Ok((name.clone(), tensor))
    };
    weights.iter().map(scale).collect()
}

#[cfg(test)]
mod tests;
