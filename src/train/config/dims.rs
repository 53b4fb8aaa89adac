//! Settings of `train dims` (`[dims]`): what differs from the stage that made the teacher. Everything
//! else, such as seed, batches and optimiser, is `[train]`'s.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Train;
use crate::model::Dtype;
use crate::train::update::schedule::Schedule;

/// Distilling several steps into one. The defaults are the first published recipe: random masks, two
/// teacher passes, a teacher that follows the student. The second is `mask = "full"`, `steps = 4`,
/// `ema = false`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dims {
    /// Bundle of the model to distil; `bundle` in the run's output folder where it is left out. Student
    /// and tokenizer are copies of its own, so `[model]` and `[tokenizer]` are not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Gets checkpoints, log and bundle of the student; `dims` in the run's output folder where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Teacher passes that the student learns to do in one.
    pub steps: u8,
    /// What the teacher's products are in: `f32` as the student's own (`train.products`), `q8` in eight bits,
    /// which makes four passes cheaper than one of the student's and is what the server computes with.
    pub teacher_dtype: Dtype,
    /// Whether, and how slowly, the teacher follows the student.
    pub ema: Following,
    /// The teacher's distribution is sharpened to this temperature.
    pub temperature: f64,
    /// The bundle's logits are the student's times this: below 1 where a sharpened teacher has made it too sure
    /// to compare candidates of several lengths. 1 as published. Of several rounds the last has it: a teacher whose
    /// bundle is scaled is that much softer.
    pub output_scale: f64,
    /// Weight of the distance between hidden states.
    pub hidden_weight: f64,
    pub mask: Mask,
    /// Where all places are masked the target is not needed but for its length. Above 0 the canvas has instead
    /// one of so many lengths that the teacher finds the most probable, as in decoding: the student learns from
    /// the canvases that it will get, and how sure to be of each. 0 for the target's own length, as published.
    pub length_beam: usize,
    /// What the student learns of its teacher's passes.
    #[serde(skip_serializing_if = "Target::is_slots")]
    pub target: Target,
    /// With `target = "text"`: weight of the divergence, and of `hidden_weight` times the distance of hidden states, in the
    /// slots where student and teacher align the text alike. 0 for the text alone.
    #[serde(skip_serializing_if = "is_zero")]
    pub agree: f64,
    /// Of the student; the published one trains without.
    pub dropout: f64,
    /// U-DiMS: targets are the teacher's own translations, and `data.target` is not read.
    pub unsupervised: bool,
    /// Passes of such a translation.
    pub translation_steps: u8,
    /// The stage so many times, each time with the student of the time before as its teacher. All but the last
    /// leave what they have made in `rounds/1` and so on in the stage's folder.
    #[serde(skip_serializing_if = "Dims::is_single")]
    pub rounds: u8,
    pub updates: u64,
    /// Update n has rate min(`learning_rate_cap`, `learning_rate` / √n).
    pub learning_rate: f64,
    pub learning_rate_cap: f64,
    /// The first so many updates rise linearly to that; 0 for none, as published.
    #[serde(skip_serializing_if = "Dims::is_none")]
    pub warmup: u64,
    /// The last so many updates fall linearly to zero; 0 for none, as published. Small batches need it.
    pub cooldown: u64,
    /// In updates, as the next.
    pub validate_every: u64,
    pub checkpoint_every: u64,
    /// The bundle has the mean weights of so many checkpoints, those of the best validations.
    pub average_best: usize,
}

/// The decay of the moving average that is the teacher.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected true, false, a decay between 0 and 1, or \"auto\"")]
pub enum Following {
    /// `false`: the teacher stays as it is. `true`: the published decay.
    Switch(bool),
    Decay(f64),
    /// An average over 8 % of the updates. Where they are few and small this is so fast that the teacher runs away
    /// with its student (config/train/README.md).
    Auto(Auto),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    Auto,
}

/// What the student is asked to fill in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// A random number of places, each number equally likely; of an Imputer the slots that
    /// [`SlotMask::Block`](super::SlotMask::Block) hides.
    Random,
    /// All places, as one-step decoding does.
    Full,
    /// Of each sentence the one or the other, as a coin falls: all places for one step, some for the later
    /// ones of several. Not a published recipe.
    Mixed,
}

/// What a teacher's passes end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Its distribution and hidden state at every masked place, as published.
    Slots,
    /// Of an Imputer the text, by CTC: the student is free in which slot it says what.
    Text,
}

impl Target {
    fn is_slots(&self) -> bool {
        *self == Self::Slots
    }
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Default for Dims {
    fn default() -> Self {
        Self {
            teacher: None,
            output: None,
            steps: 2,
            teacher_dtype: Dtype::F32,
            ema: Following::Switch(true),
            temperature: 0.5,
            output_scale: 1.0,
            hidden_weight: 0.4,
            mask: Mask::Random,
            length_beam: 0,
            target: Target::Slots,
            agree: 0.0,
            dropout: 0.0,
            unsupervised: false,
            translation_steps: 4,
            rounds: 1,
            updates: 500,
            learning_rate: 1e-3,
            learning_rate_cap: 3e-4,
            warmup: 0,
            cooldown: 0,
            validate_every: 50,
            checkpoint_every: 50,
            average_best: 1,
        }
    }
}

impl Dims {
    pub const NO_SLOTS: &str =
        "dims.target = \"text\" is for imputers; the teacher is none, so it must be \"slots\"";
    /// The folder of all rounds but the last, in the stage's own.
    pub const ROUNDS: &str = "rounds";
    pub const NO_LENGTHS: &str =
        "dims.length_beam is for models that guess a length; the teacher is an imputer, so it must be 0";
    /// Norouzi et al. 2023.
    const PUBLISHED_DECAY: f64 = 0.9992;
    /// Share of the updates that `auto` averages over.
    const AUTO_SHARE: f64 = 0.08;

    pub fn teacher(&self, output: &Path) -> PathBuf {
        self.teacher.clone().unwrap_or_else(|| output.join("bundle"))
    }

    pub fn output(&self, output: &Path) -> PathBuf {
        self.output.clone().unwrap_or_else(|| output.join("dims"))
    }

    fn is_single(rounds: &u8) -> bool {
        *rounds == 1
    }

    fn is_none(updates: &u64) -> bool {
        *updates == 0
    }

    /// Round `number`, from 1, as a stage of its own; `output` is the run's folder.
    pub fn round(&self, number: u8, output: &Path) -> Self {
        let own = self.output(output);
        let folder =
            |n: u8| if n == self.rounds { own.clone() } else { own.join(Self::ROUNDS).join(n.to_string()) };
        let teacher = if number <= 1 { self.teacher(output) } else { folder(number - 1).join("bundle") };
        let output_scale = if number == self.rounds { self.output_scale } else { 1.0 };
        Self { teacher: Some(teacher), output: Some(folder(number)), rounds: 1, output_scale, ..self.clone() }
    }

    /// Of the teacher's moving average; 0 for a teacher that stays as it is.
    pub fn decay(&self) -> f64 {
        match self.ema {
            Following::Switch(false) => 0.0,
            Following::Switch(true) => Self::PUBLISHED_DECAY,
            Following::Decay(decay) => decay,
            // 1 / (1 - d) is the number of updates that count; fewer than two would be no average.
            Following::Auto(Auto::Auto) => 1.0 - 1.0 / (Self::AUTO_SHARE * self.updates as f64).max(2.0),
        }
    }

    /// The settings of the loop: those of the run, with this stage's in their place.
    pub fn train(&self, run: &Train) -> Train {
        Train {
            dropout: self.dropout,
            label_smoothing: 0.0,
            updates: self.updates,
            learning_rate: self.learning_rate,
            warmup: 1,
            cooldown: self.cooldown,
            ema_decay: self.decay(),
            validate_every: self.validate_every,
            checkpoint_every: self.checkpoint_every,
            average_best: self.average_best,
            ..run.clone()
        }
    }

    pub fn schedule(&self) -> Schedule {
        Schedule {
            peak: self.learning_rate,
            warmup: 1,
            cap: self.learning_rate_cap,
            ramp: self.warmup,
            updates: self.updates,
            cooldown: self.cooldown,
        }
    }

    /// What is wrong with the values, if anything.
    pub(super) fn validate(&self, run: &Train) -> Result<(), String> {
        let rule = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
        let (average, kept) = (self.average_best, run.keep_best);
        rule(average <= kept, format!("dims.average_best ({average}) exceeds train.keep_best ({kept})"))?;
        for (key, value) in [
            ("steps", u64::from(self.steps)),
            ("translation_steps", self.translation_steps.into()),
            ("rounds", self.rounds.into()),
            ("updates", self.updates),
            ("validate_every", self.validate_every),
            ("checkpoint_every", self.checkpoint_every),
            ("average_best", self.average_best as u64),
        ] {
            rule(value > 0, format!("dims.{key} is 0; it must be at least 1"))?;
        }
        for (key, value) in [("dropout", self.dropout), ("ema", self.decay())] {
            rule((0.0..1.0).contains(&value), format!("dims.{key} is {value}; it must lie in [0, 1)"))?;
        }
        for (key, value) in [
            ("temperature", self.temperature),
            ("output_scale", self.output_scale),
            ("learning_rate", self.learning_rate),
            ("learning_rate_cap", self.learning_rate_cap),
        ] {
            let fits = value > 0.0 && value.is_finite();
            rule(fits, format!("dims.{key} is {value}; it must be more than 0"))?;
        }
        let (cooldown, updates) = (self.cooldown, self.updates);
        rule(cooldown <= updates, format!("dims.cooldown ({cooldown}) exceeds dims.updates ({updates})"))?;
        let dtype = self.teacher_dtype;
        let known = matches!(dtype, Dtype::F32 | Dtype::Q8);
        rule(known, format!("dims.teacher_dtype is {}; it must be f32 or q8", dtype.name()))?;
        for (key, weight) in [("hidden_weight", self.hidden_weight), ("agree", self.agree)] {
            let fits = weight >= 0.0 && weight.is_finite();
            rule(fits, format!("dims.{key} is {weight}; it must be 0 or more"))?;
        }
        rule(
            self.agree == 0.0 || self.target == Target::Text,
            "dims.agree needs dims.target = \"text\"".into(),
        )
    }
}
