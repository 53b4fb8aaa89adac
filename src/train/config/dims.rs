//! Settings of `train dims` (`[dims]`). Seed, batches, optimizer and everything else come from `[train]`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Train;
use crate::keys::{at_least, at_most, below_one, not_negative, positive};
use crate::model::Dtype;

/// Distillation of several decoding steps into one. The defaults are the first published recipe: random masks, two
/// teacher passes, and a teacher that follows the student. The second recipe is `mask = "full"`, `steps = 4`, `ema =
/// false`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dims {
    /// Bundle of the model to distil; by default `bundle` in the run's output folder. The student starts as a copy of
    /// it and takes its tokenizer, so `[model]` and `[tokenizer]` are ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Folder of checkpoints, log and bundle of the student; by default `dims` in the run's output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Number of teacher passes that the student learns to do in one.
    pub steps: u8,
    /// Number type of the teacher's products: `f32`, which means the student's (`train.products`), or `q8`, in which
    /// four passes cost less than one pass of the student.
    pub teacher_dtype: Dtype,
    /// Decay of the teacher's moving average of the student's weights, if the teacher follows the student.
    pub ema: TeacherDecay,
    /// Temperature of the teacher's distribution; below 1 sharpens it.
    pub temperature: f64,
    /// Factor on the logits of the bundle. Below 1 corrects a student that a sharpened teacher made too certain to
    /// compare lengths. 1 as published. Of several rounds, only the last one applies it, because it would soften a
    /// teacher.
    pub output_scale: f64,
    /// Weight of the distance between hidden states.
    pub hidden_weight: f64,
    pub mask: Mask,
    /// If all positions are masked, only the length of the target matters. Above 0, the canvas has one of this many
    /// most probable lengths of the teacher, as in decoding. 0 for the target's own length, as published.
    pub length_beam: usize,
    /// What the student learns from the passes of the teacher.
    #[serde(skip_serializing_if = "Target::is_slots")]
    pub target: Target,
    /// With `target = "text"`: weight of the divergence, plus `hidden_weight` times the distance of hidden states, in
    /// slots where student and teacher align the text equally. 0 for the loss of the text only.
    #[serde(skip_serializing_if = "is_zero")]
    pub agree: f64,
    /// With `target = "text"`: the teacher translates with the language model of its bundle (`train lm`), as the server
    /// does.
    #[serde(skip_serializing_if = "is_false")]
    pub lm: bool,
    /// Dropout of the student; 0 as published.
    pub dropout: f64,
    /// U-DiMS: the targets are the teacher's own translations, and `data.target` is not read.
    pub unsupervised: bool,
    /// Number of steps of such a translation.
    pub translation_steps: u8,
    /// Number of rounds. The student of each round is the teacher of the next. All rounds but the last write to
    /// `rounds/1` and so on in the stage's folder.
    #[serde(skip_serializing_if = "Dims::is_single")]
    pub rounds: u8,
    pub updates: u64,
    /// The learning rate of update n is min(`learning_rate_cap`, `learning_rate` / √n).
    pub learning_rate: f64,
    pub learning_rate_cap: f64,
    /// Number of first updates over which the learning rate rises linearly; 0 for none, as published.
    #[serde(skip_serializing_if = "Dims::is_none")]
    pub warmup: u64,
    /// Number of last updates over which the learning rate falls linearly to zero; 0 for none, as published. Small
    /// batches need it.
    pub cooldown: u64,
    /// In updates, like the next key.
    pub validate_every: u64,
    pub checkpoint_every: u64,
    /// The bundle gets the mean weights of this many checkpoints with the best validation scores.
    pub average_best: usize,
}

/// Whether the teacher follows the student, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected true, false, a decay between 0 and 1, or \"auto\"")]
pub enum TeacherDecay {
    /// `false`: the teacher is fixed. `true`: the published decay.
    Switch(bool),
    Decay(f64),
    /// An average over 8 % of the updates. In a run of few updates that is so fast that teacher and student diverge
    /// together (config/train/notes/dims-ablation.md).
    Auto(Auto),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    Auto,
}

/// Which positions of the canvas are masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// A random number of positions, uniformly distributed; for an Imputer, the slots that
    /// [`SlotMask::Block`](super::SlotMask::Block) masks.
    Random,
    /// All positions, as in one-step decoding.
    Full,
    /// One of the two for each sentence, with equal probability. Not a published recipe.
    Mixed,
}

/// What the student learns from the passes of the teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The distribution and hidden state at every masked position, as published.
    Slots,
    /// For an Imputer: the text, by a CTC loss, which leaves the alignment to the student.
    Text,
}

impl Target {
    fn is_slots(&self) -> bool {
        *self == Self::Slots
    }
}

fn is_false(value: &bool) -> bool {
    !value
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
            ema: TeacherDecay::Switch(true),
            temperature: 0.5,
            output_scale: 1.0,
            hidden_weight: 0.4,
            mask: Mask::Random,
            length_beam: 0,
            target: Target::Slots,
            agree: 0.0,
            lm: false,
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
        "dims.target = \"text\" is for imputers, but the teacher is not one; set it to \"slots\"";
    /// Folder of all rounds but the last, inside the stage's folder.
    pub const ROUNDS: &str = "rounds";
    pub const NO_LENGTHS: &str =
        "dims.length_beam is for models that predict a length, but the teacher is an imputer; set it to 0";
    /// Norouzi et al. 2023.
    const PUBLISHED_DECAY: f64 = 0.9992;
    /// Share of the updates that `ema = "auto"` averages over.
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

    /// The settings of round `number`, from 1, as a stage of one round. `output` is the run's folder.
    pub fn round(&self, number: u8, output: &Path) -> Self {
        let own = self.output(output);
        let folder =
            |n: u8| if n == self.rounds { own.clone() } else { own.join(Self::ROUNDS).join(n.to_string()) };
        let teacher = if number <= 1 { self.teacher(output) } else { folder(number - 1).join("bundle") };
        let output_scale = if number == self.rounds { self.output_scale } else { 1.0 };
        Self { teacher: Some(teacher), output: Some(folder(number)), rounds: 1, output_scale, ..self.clone() }
    }

    /// Decay of the teacher's moving average; 0 for a fixed teacher.
    pub fn decay(&self) -> f64 {
        match self.ema {
            TeacherDecay::Switch(false) => 0.0,
            TeacherDecay::Switch(true) => Self::PUBLISHED_DECAY,
            TeacherDecay::Decay(decay) => decay,
            // The average covers about 1 / (1 − d) updates, at least two.
            TeacherDecay::Auto(Auto::Auto) => 1.0 - 1.0 / (Self::AUTO_SHARE * self.updates as f64).max(2.0),
        }
    }

    /// The settings of the run's training loop, overridden by those of this section.
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

    /// # Errors
    /// The first invalid key.
    pub(super) fn validate(&self, run: &Train) -> Result<(), String> {
        at_most("dims.average_best", self.average_best, "train.keep_best", run.keep_best)?;
        for (key, value) in [
            ("steps", u64::from(self.steps)),
            ("translation_steps", self.translation_steps.into()),
            ("rounds", self.rounds.into()),
            ("updates", self.updates),
            ("validate_every", self.validate_every),
            ("checkpoint_every", self.checkpoint_every),
            ("average_best", self.average_best as u64),
        ] {
            at_least(&format!("dims.{key}"), value, 1)?;
        }
        for (key, value) in [("dropout", self.dropout), ("ema", self.decay())] {
            below_one(&format!("dims.{key}"), value)?;
        }
        for (key, value) in [
            ("temperature", self.temperature),
            ("output_scale", self.output_scale),
            ("learning_rate", self.learning_rate),
            ("learning_rate_cap", self.learning_rate_cap),
        ] {
            positive(&format!("dims.{key}"), value)?;
        }
        at_most("dims.cooldown", self.cooldown, "dims.updates", self.updates)?;
        let dtype = self.teacher_dtype;
        if !matches!(dtype, Dtype::F32 | Dtype::Q8) {
            return Err(format!("dims.teacher_dtype must be f32 or q8, not {}", dtype.name()));
        }
        for (key, weight) in [("hidden_weight", self.hidden_weight), ("agree", self.agree)] {
            not_negative(&format!("dims.{key}"), weight)?;
        }
        if self.agree != 0.0 && self.target != Target::Text {
            return Err("dims.agree needs dims.target = \"text\"".into());
        }
        if self.lm && self.target != Target::Text {
            return Err("dims.lm needs dims.target = \"text\"".into());
        }
        if self.lm && self.rounds > 1 {
            return Err(
                "dims.lm needs dims.rounds = 1, because the student of a round has no language model".into(),
            );
        }
        Ok(())
    }
}
