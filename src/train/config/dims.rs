//! Settings of `train dims` (`[dims]`): what differs from the stage that made the teacher. Seed, batches, optimizer and
//! everything else are those of `[train]`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Train;
use crate::model::Dtype;

/// Distilling several steps into one. The defaults are the first published recipe: random masks, two
/// teacher passes, a teacher that follows the student. The second is `mask = "full"`, `steps = 4`,
/// `ema = false`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dims {
    /// Bundle of the model to distil; by default `bundle` in the run's output folder. Student
    /// and tokenizer are copies of the teacher's, so `[model]` and `[tokenizer]` are ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Folder for checkpoints, log and bundle of the student; by default `dims` in the run's output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Number of teacher passes that the student learns to do in one.
    pub steps: u8,
    /// Number type of the teacher's products: `f32`, which means that of the student (`train.products`), or `q8`, with which
    /// four passes cost less than one of the student's.
    pub teacher_dtype: Dtype,
    /// Whether the teacher follows the student, and the decay of its moving average.
    pub ema: Following,
    /// The teacher's distribution is sharpened to this temperature.
    pub temperature: f64,
    /// Factor on the logits of the bundle; below 1 if a sharpened teacher made the student too certain to compare lengths. 1 as
    /// published. Only the last of several rounds applies it, since it would soften a teacher.
    pub output_scale: f64,
    /// Weight of the distance between hidden states.
    pub hidden_weight: f64,
    pub mask: Mask,
    /// With all places masked only the length of the target matters. Above 0 the canvas has one of this many most probable
    /// lengths of the teacher, as in decoding. 0 for the target's own length, as published.
    pub length_beam: usize,
    /// What the student learns of its teacher's passes.
    #[serde(skip_serializing_if = "Target::is_slots")]
    pub target: Target,
    /// With `target = "text"`: weight of the divergence, and of `hidden_weight` times the distance of hidden states, in the
    /// slots where student and teacher align the text alike. 0 for the text alone.
    #[serde(skip_serializing_if = "is_zero")]
    pub agree: f64,
    /// Dropout of the student; 0 as published.
    pub dropout: f64,
    /// U-DiMS: targets are the teacher's own translations, and `data.target` is not read.
    pub unsupervised: bool,
    /// Number of passes of such a translation.
    pub translation_steps: u8,
    /// Number of rounds; the student of each is the teacher of the next. All but the last write to `rounds/1` and so on in the
    /// stage's folder.
    #[serde(skip_serializing_if = "Dims::is_single")]
    pub rounds: u8,
    pub updates: u64,
    /// Update n has rate min(`learning_rate_cap`, `learning_rate` / √n).
    pub learning_rate: f64,
    pub learning_rate_cap: f64,
    /// Number of first updates over which the rate rises linearly; 0 for none, as published.
    #[serde(skip_serializing_if = "Dims::is_none")]
    pub warmup: u64,
    /// Number of last updates over which the rate falls linearly to zero; 0 for none, as published. Small batches need it.
    pub cooldown: u64,
    /// In updates, as the next.
    pub validate_every: u64,
    pub checkpoint_every: u64,
    /// Number of checkpoints with the best validation scores whose mean weights the bundle gets.
    pub average_best: usize,
}

/// The decay of the moving average that is the teacher.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected true, false, a decay between 0 and 1, or \"auto\"")]
pub enum Following {
    /// `false`: the teacher is fixed. `true`: the published decay.
    Switch(bool),
    Decay(f64),
    /// An average over 8 % of the updates. With few updates this is so fast that teacher and student diverge together
    /// (config/train/notes/dims-ablation.md).
    Auto(Auto),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    Auto,
}

/// The places that are masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// A random number of places, each number equally likely; of an Imputer the slots that
    /// [`SlotMask::Block`](super::SlotMask::Block) hides.
    Random,
    /// All places, as one-step decoding does.
    Full,
    /// One of the two for each sentence, with equal probability. Not a published recipe.
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
