//! The arguments of each command.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tutti::flags::{DeviceFlag, NetworkFlags};
use tutti::model::{Shape, Stored};
use tutti::train::config::Products;
use tutti::train::stages::distill::Shard;

#[derive(Args)]
pub struct RunArgs {
    /// TOML file of the run; config/train/ has examples
    #[arg(long)]
    pub config: PathBuf,
    /// Override a key of the file, such as --set train.updates=100; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// Arguments of commands that can be interrupted and continued.
#[derive(Args)]
pub struct StageArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Stop after N minutes: finish the current validation, chunk or checkpoint, save, and exit with status 75. The
    /// same command continues the run
    #[arg(long, value_name = "N")]
    pub minutes: Option<f64>,
}

#[derive(Args)]
pub struct DistillArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    /// Translate shard I of N; the shards of all machines belong in one folder
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    pub shard: Shard,
}

#[derive(Args)]
pub struct AverageArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Stage whose checkpoints to average
    #[arg(long, value_enum, default_value_t = Averaged::Parallel)]
    pub stage: Averaged,
    /// Number of checkpoints to average, those with the best validation scores
    #[arg(long, default_value_t = 5, conflicts_with = "checkpoints")]
    pub best: usize,
    /// Folders of checkpoints, or safetensors files in f16 or f32, to average instead of the best checkpoints
    #[arg(long, num_args = 1..)]
    pub checkpoints: Vec<PathBuf>,
    /// Folder of the new bundle
    #[arg(long)]
    pub output: PathBuf,
}

#[derive(Args)]
pub struct CalibrateArgs {
    /// Folder of the bundle to correct
    #[arg(long, default_value = "models/en-de")]
    pub model: PathBuf,
    /// Factor on all logits; below 1 flattens the probabilities, which can improve the choice between target lengths
    #[arg(long, default_value_t = 1.0)]
    pub output_scale: f64,
    /// Penalty on the blank's logit; above 0 makes an Imputer's translations longer
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub blank_penalty: f64,
    /// Number type of the layers' matrices in the new bundle [default: that of the bundle]. f16 does not bring back what q8
    /// has rounded
    #[arg(long, value_enum)]
    pub stored: Option<StoredType>,
    /// Folder of the new bundle
    #[arg(long)]
    pub output: PathBuf,
}

#[derive(Args)]
pub struct InterpolateArgs {
    /// Source text, plain or gzip, one sentence a line
    #[arg(long)]
    pub source: PathBuf,
    /// Human translation, line by line
    #[arg(long)]
    pub reference: PathBuf,
    /// Translation by a model (`tutti translate`), line by line; may be repeated
    #[arg(long = "candidate", required = true)]
    pub candidates: Vec<PathBuf>,
    /// Use the reference if no candidate reaches this chrF (0 to 100) against it
    #[arg(long, default_value_t = 0.0, value_name = "CHRF")]
    pub min_chrf: f64,
    /// Folder for train.source, train.target and manifest.json
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
    /// Checkpoint file (model.pt)
    #[arg(long)]
    pub checkpoint: PathBuf,
    /// Dictionary of both languages (dict.txt)
    #[arg(long)]
    pub dict: PathBuf,
    /// BPE codes of subword-nmt or fastBPE that the model was trained with
    #[arg(long)]
    pub codes: PathBuf,
    /// Source language code [default: that of the checkpoint]
    #[arg(long)]
    pub source: Option<String>,
    /// Target language code [default: that of the checkpoint]
    #[arg(long)]
    pub target: Option<String>,
    /// Folder of the new bundle
    #[arg(long)]
    pub output: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum StoredType {
    /// 16 bits
    F16,
    /// 8 bits with a scale for each row: a smaller file, and the same translations in q8
    Q8,
}

impl From<StoredType> for Stored {
    fn from(stored: StoredType) -> Self {
        match stored {
            StoredType::F16 => Self::F16,
            StoredType::Q8 => Self::Q8,
        }
    }
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
    /// Mean number of tokens of a sentence
    #[arg(long, default_value_t = 14)]
    pub sentence_tokens: usize,
    /// Dropout rate
    #[arg(long, default_value_t = 0.1)]
    pub dropout: f32,
    #[command(flatten)]
    pub device_flag: DeviceFlag,
    /// Number of updates to measure for each stage, after one that warms up
    #[arg(long, default_value_t = 10)]
    pub updates: usize,
    /// Do not measure the large product that speeds are compared with. Every run then computes the same, so that its
    /// instructions can be counted
    #[arg(long)]
    pub no_product: bool,
    /// Stages to measure, by prefixes of their names: ar, cmlm, imputer, dims [default: all]
    #[arg(long, value_delimiter = ',')]
    pub stages: Vec<String>,
    /// Seed of text and weights
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ShortlistArgs {
    /// Folder of the bundle to add the shortlist to
    #[arg(long)]
    pub model: PathBuf,
    /// Source text, plain or gzip, one sentence a line; ideally the training text of the model
    #[arg(long)]
    pub source: PathBuf,
    /// Its translation, line by line
    #[arg(long)]
    pub target: PathBuf,
    /// Number of candidates of each source token, the most probable ones
    #[arg(long, default_value_t = 100)]
    pub per_token: usize,
    /// Number of target tokens that every sentence may use, the most frequent ones
    #[arg(long, default_value_t = 200)]
    pub common: usize,
    /// Number of iterations of expectation maximization
    #[arg(long, default_value_t = 5)]
    pub iterations: usize,
}

#[derive(Args)]
pub struct LmArgs {
    /// Folder of the bundle (an Imputer's) to add the language model to
    #[arg(long)]
    pub model: PathBuf,
    /// Text in the target language, plain or gzip, one sentence a line; may be repeated
    #[arg(long, required = true)]
    pub text: Vec<PathBuf>,
    /// Weight of its log-probabilities; a higher weight makes translations more fluent and less faithful
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
    /// Folder of the bundle to seal
    #[arg(long)]
    pub model: PathBuf,
    /// Known sentence [default: that of the bundle, or a built-in one]
    #[arg(long)]
    pub sentence: Option<String>,
}

#[derive(Args)]
pub struct EvaluateArgs {
    /// Folder of the bundle to score
    #[arg(long, default_value = "models/en-de")]
    pub model: PathBuf,
    /// Source text, one sentence a line
    #[arg(long)]
    pub source: PathBuf,
    /// Reference translation, line by line
    #[arg(long)]
    pub reference: PathBuf,
    /// Numbers of decoding steps
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,10")]
    pub steps: Vec<u8>,
    /// Beam widths, for an autoregressive model
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    pub beam: Vec<usize>,
    /// Number of target lengths to try for each sentence [default: that of the model]
    #[arg(long)]
    pub length_beam: Option<usize>,
    /// Padded tokens of a batch
    #[arg(long, default_value_t = 2048)]
    pub batch_tokens: usize,
    #[command(flatten)]
    pub network: NetworkFlags,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Record the scores in the bundle's config.json, for the server's /info
    #[arg(long)]
    pub record: bool,
}

#[derive(Args)]
pub struct ReportArgs {
    /// Folder of a bundle, or NAME=FOLDER; repeat for each model, baseline first
    #[arg(long = "model", value_name = "[NAME=]FOLDER", required = true)]
    pub models: Vec<String>,
    /// Source text, one sentence a line
    #[arg(long)]
    pub source: PathBuf,
    /// Reference translation, line by line
    #[arg(long)]
    pub reference: PathBuf,
    /// Number of sentences, from the start of the files [default: all]
    #[arg(long)]
    pub sentences: Option<usize>,
    /// Numbers of decoding steps
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,10")]
    pub steps: Vec<u8>,
    /// Numbers of target lengths to try for each sentence
    #[arg(long = "length-beam", value_delimiter = ',', default_value = "1,3,5")]
    pub length_beams: Vec<usize>,
    /// Beam widths, for an autoregressive model
    #[arg(long = "beam", value_delimiter = ',', default_value = "1,4")]
    pub beams: Vec<usize>,
    /// Also report BLEU by source length in words: 10,20 makes buckets of up to 10, 11 to 20, and more
    #[arg(long, value_delimiter = ',')]
    pub buckets: Vec<usize>,
    /// Number of bootstrap samples for confidence intervals and significance tests
    #[arg(long, default_value_t = 1000)]
    pub resamples: usize,
    /// Seed of the bootstrap samples
    #[arg(long, default_value_t = 12345)]
    pub seed: u64,
    /// Number of sentences to time one by one
    #[arg(long, default_value_t = 200)]
    pub timed_sentences: usize,
    /// Number of timings of each sentence; the median counts
    #[arg(long, default_value_t = 3)]
    pub timing_rounds: usize,
    /// Padded tokens of a batch for the measurement of quality
    #[arg(long, default_value_t = 2048)]
    pub batch_tokens: usize,
    #[command(flatten)]
    pub network: NetworkFlags,
    /// Folder for report.md, quality.svg and report.json
    #[arg(long)]
    pub output: PathBuf,
}
