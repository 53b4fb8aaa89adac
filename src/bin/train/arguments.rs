//! What each command takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tutti::flags::{DeviceFlag, NetworkFlags};
use tutti::model::Shape;
use tutti::train::config::Products;
use tutti::train::stages::distill::Shard;

#[derive(Args)]
pub struct RunArgs {
    /// TOML file of the run (see config/train/)
    #[arg(long)]
    pub config: PathBuf,
    /// Override a key of the file, as in --set train.updates=100; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// For commands that continue where they were stopped.
#[derive(Args)]
pub struct StageArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Stop after N minutes: save, then exit with status 75; the same command continues. A validation, a chunk of
    /// distilled text or a checkpoint that has begun is finished first
    #[arg(long, value_name = "N")]
    pub minutes: Option<f64>,
}

#[derive(Args)]
pub struct DistillArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    /// Do part I of N; the parts of all machines belong in one folder
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    pub shard: Shard,
}

#[derive(Args)]
pub struct AverageArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Stage whose checkpoints are averaged
    #[arg(long, value_enum, default_value_t = Averaged::Parallel)]
    pub stage: Averaged,
    /// Number of checkpoints to average, those with the best validation scores
    #[arg(long, default_value_t = 5, conflicts_with = "checkpoints")]
    pub best: usize,
    /// Checkpoint folders to average, instead of the best
    #[arg(long, num_args = 1..)]
    pub checkpoints: Vec<PathBuf>,
    /// Folder of the bundle
    #[arg(long)]
    pub output: PathBuf,
}

#[derive(Args)]
pub struct CalibrateArgs {
    /// Folder of the bundle
    #[arg(long, default_value = "models/en-de")]
    pub model: PathBuf,
    /// Multiply all logits by this factor; below 1 makes the model less certain, so that it compares lengths better
    #[arg(long, default_value_t = 1.0)]
    pub output_scale: f64,
    /// Subtract this from the blank's logit; above 0 makes an Imputer write more
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub blank_penalty: f64,
    /// Folder of the bundle that is written
    #[arg(long)]
    pub output: PathBuf,
}

#[derive(Args)]
pub struct InterpolateArgs {
    /// Text, a sentence a line, plain or gzip
    #[arg(long)]
    pub source: PathBuf,
    /// Human translation, line by line
    #[arg(long)]
    pub reference: PathBuf,
    /// Translation by a model (`tutti translate`), line by line; repeat for several
    #[arg(long = "candidate", required = true)]
    pub candidates: Vec<PathBuf>,
    /// Take the reference if no candidate has at least this chrF (0 to 100) against it
    #[arg(long, default_value_t = 0.0, value_name = "CHRF")]
    pub min_chrf: f64,
    /// Folder to write train.source, train.target and manifest.json to
    #[arg(long)]
    pub output: PathBuf,
}

#[derive(Subcommand)]
pub enum ImportFrom {
    /// Import a CMLM, CMLMC or DiMS checkpoint of fairseq
    Fairseq(FairseqArgs),
}

#[derive(Args)]
pub struct FairseqArgs {
    /// The checkpoint, model.pt
    #[arg(long)]
    pub checkpoint: PathBuf,
    /// The dictionary of both languages, dict.txt
    #[arg(long)]
    pub dict: PathBuf,
    /// BPE codes of subword-nmt or fastBPE that the model was trained with
    #[arg(long)]
    pub codes: PathBuf,
    /// Source language code [default: the checkpoint's]
    #[arg(long)]
    pub source: Option<String>,
    /// Target language code [default: the checkpoint's]
    #[arg(long)]
    pub target: Option<String>,
    /// Folder of the bundle
    #[arg(long)]
    pub output: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Averaged {
    #[value(alias = "cmlm")]
    Parallel,
    Dims,
}

#[derive(Args, Clone)]
#[command(mut_arg("device", |flag| flag.help("cpu, cuda:0 or auto").default_value("cpu")))]
pub struct BenchArgs {
    /// Shape of the networks
    #[arg(long, default_value = "enc=3,dec=3,d=256,ffn=1024,heads=4,vocab=8000")]
    pub shape: Shape,
    /// Number type of the operands of matrix products: f32 or bf16
    #[arg(long, default_value = "bf16")]
    pub products: Products,
    /// Padded tokens of a batch
    #[arg(long, default_value_t = 2048)]
    pub batch_tokens: usize,
    /// Tokens of a sentence, on average
    #[arg(long, default_value_t = 14)]
    pub sentence_tokens: usize,
    /// Dropout rate
    #[arg(long, default_value_t = 0.1)]
    pub dropout: f32,
    #[command(flatten)]
    pub place: DeviceFlag,
    /// Updates of each stage
    #[arg(long, default_value_t = 10)]
    pub updates: usize,
    /// Stages to measure, by the beginnings of their names: ar, cmlm, imputer, dims [default: all]
    #[arg(long, value_delimiter = ',')]
    pub stages: Vec<String>,
    /// Seed of text and weights
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ShortlistArgs {
    /// Folder of the bundle that gets the shortlist
    #[arg(long)]
    pub model: PathBuf,
    /// Source text, plain or gzip, one sentence a line; best the text that the model was trained on
    #[arg(long)]
    pub source: PathBuf,
    /// Its translation, line by line
    #[arg(long)]
    pub target: PathBuf,
    /// Number of candidates for each source token, the most probable ones
    #[arg(long, default_value_t = 100)]
    pub per_token: usize,
    /// Number of target tokens that every sentence may use, the most frequent ones
    #[arg(long, default_value_t = 200)]
    pub common: usize,
    /// Rounds of expectation maximisation
    #[arg(long, default_value_t = 5)]
    pub iterations: usize,
}

#[derive(Args)]
pub struct LmArgs {
    /// Folder of the bundle (an Imputer's) that gets the language model
    #[arg(long)]
    pub model: PathBuf,
    /// Text of the target language, plain or gzip, one sentence a line; several files are joined
    #[arg(long, required = true)]
    pub text: Vec<PathBuf>,
    /// Weight of its log-probabilities; a higher one makes translations more fluent and less faithful
    #[arg(long, default_value_t = 0.6)]
    pub weight: f32,
    /// Bonus for each token, in nats, against the language model's preference for short translations
    #[arg(long, default_value_t = 2.8)]
    pub bonus: f32,
    /// Largest penalty of a token, in nats, so that unknown names are not suppressed; `inf` for no limit
    #[arg(long, default_value_t = 1.0)]
    pub penalty: f32,
    /// Drop trigrams that occur no more often than this, for a smaller file
    #[arg(long, default_value_t = 0)]
    pub prune: u32,
}

#[derive(Args)]
pub struct SealArgs {
    /// Folder of the bundle
    #[arg(long)]
    pub model: PathBuf,
    /// The known sentence; the one that is there, or one of this program, if not given
    #[arg(long)]
    pub sentence: Option<String>,
}

#[derive(Args)]
pub struct EvaluateArgs {
    /// Folder of the bundle
    #[arg(long, default_value = "models/en-de")]
    pub model: PathBuf,
    /// Text to translate, a sentence a line
    #[arg(long)]
    pub source: PathBuf,
    /// Reference translation, line by line
    #[arg(long)]
    pub reference: PathBuf,
    /// Numbers of decoder passes
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,10")]
    pub steps: Vec<u8>,
    /// Widths of the beam, for an autoregressive model, which has no steps
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    pub beam: Vec<usize>,
    /// Number of lengths to try for each sentence [default: the model's]
    #[arg(long)]
    pub length_beam: Option<usize>,
    /// Padded tokens of a batch
    #[arg(long, default_value_t = 2048)]
    pub batch_tokens: usize,
    #[command(flatten)]
    pub network: NetworkFlags,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Record the scores in the bundle's config.json, where /info reads them
    #[arg(long)]
    pub record: bool,
}

#[derive(Args)]
pub struct ReportArgs {
    /// Folder of a bundle, or NAME=FOLDER; repeat for each model; the first one is the baseline
    #[arg(long = "model", value_name = "[NAME=]FOLDER", required = true)]
    pub models: Vec<String>,
    /// Text to translate, a sentence a line
    #[arg(long)]
    pub source: PathBuf,
    /// Reference translation, line by line
    #[arg(long)]
    pub reference: PathBuf,
    /// Number of sentences, from the head of the files [default: all]
    #[arg(long)]
    pub sentences: Option<usize>,
    /// Numbers of decoder passes
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,10")]
    pub steps: Vec<u8>,
    /// Numbers of lengths to try for each sentence
    #[arg(long = "length-beam", value_delimiter = ',', default_value = "1,3,5")]
    pub length_beams: Vec<usize>,
    /// Widths of the beam, for an autoregressive model, which has no steps
    #[arg(long = "beam", value_delimiter = ',', default_value = "1,4")]
    pub beams: Vec<usize>,
    /// Also report BLEU by source length: the upper bound of each bucket but the last, in words
    #[arg(long, value_delimiter = ',')]
    pub buckets: Vec<usize>,
    /// Number of bootstrap samples, for intervals and significance
    #[arg(long, default_value_t = 1000)]
    pub resamples: usize,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 12345)]
    pub seed: u64,
    /// Number of sentences to time one by one
    #[arg(long, default_value_t = 200)]
    pub timed_sentences: usize,
    /// Number of timings of each of them; the median counts
    #[arg(long, default_value_t = 3)]
    pub timing_rounds: usize,
    /// Padded tokens of a batch, where quality is measured
    #[arg(long, default_value_t = 2048)]
    pub batch_tokens: usize,
    #[command(flatten)]
    pub network: NetworkFlags,
    /// Folder to write report.md, quality.svg and report.json to
    #[arg(long)]
    pub output: PathBuf,
}
