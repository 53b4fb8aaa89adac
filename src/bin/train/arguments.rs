//! What each command takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tutti::model::{DeviceChoice, Dtype, Shape};
use tutti::train::config::Products;
use tutti::train::stages::distill::Shard;

#[derive(Args)]
pub struct RunArgs {
    /// The run, as a TOML file (see config/train/)
    #[arg(long)]
    pub config: PathBuf,
    /// Another value for a key of the file: --set train.updates=100
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// For what goes on where it was stopped.
#[derive(Args)]
pub struct StageArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Stop after so many minutes: save what is begun and end with status 75; the same command goes on. A
    /// validation, a chunk of distilled text or a checkpoint that is under way is finished first
    #[arg(long, value_name = "N")]
    pub minutes: Option<f64>,
}

#[derive(Args)]
pub struct DistillArgs {
    #[command(flatten)]
    pub stage: StageArgs,
    /// Do the i-th of n parts of the work; the parts of all machines are put together in one folder
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    pub shard: Shard,
}

#[derive(Args)]
pub struct AverageArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Whose checkpoints
    #[arg(long, value_enum, default_value_t = Averaged::Cmlm)]
    pub stage: Averaged,
    /// Take so many checkpoints with the best validation scores
    #[arg(long, default_value_t = 5, conflicts_with = "checkpoints")]
    pub best: usize,
    /// Take these checkpoint folders instead
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
    /// Multiply all logits by this: below 1 for a student that is too sure to compare lengths
    #[arg(long, default_value_t = 1.0)]
    pub output_scale: f64,
    /// Take this from the blank's logit: above 0 for an Imputer that says too little
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
    /// What people made of it, line by line
    #[arg(long)]
    pub reference: PathBuf,
    /// What a model made of it (`tutti translate`), line by line; give several
    #[arg(long = "candidate", required = true)]
    pub candidates: Vec<PathBuf>,
    /// Where no candidate is as like the reference as this (chrF, 0 to 100), take the reference
    #[arg(long, default_value_t = 0.0, value_name = "CHRF")]
    pub min_chrf: f64,
    /// Folder that gets train.source, train.target and manifest.json
    #[arg(long)]
    pub output: PathBuf,
}

#[derive(Subcommand)]
pub enum ImportFrom {
    /// A CMLM, CMLMC or DiMS checkpoint of fairseq
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
    /// The codes of subword-nmt or fastBPE that the text was cut into pieces with
    #[arg(long)]
    pub codes: PathBuf,
    /// Language code; the checkpoint's own where left out
    #[arg(long)]
    pub source: Option<String>,
    /// Language code; the checkpoint's own where left out
    #[arg(long)]
    pub target: Option<String>,
    /// Folder of the bundle
    #[arg(long)]
    pub output: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Averaged {
    Cmlm,
    Dims,
}

#[derive(Args, Clone)]
pub struct BenchArgs {
    /// Shape of the networks
    #[arg(long, default_value = "enc=3,dec=3,d=256,ffn=1024,heads=4,vocab=8000")]
    pub shape: Shape,
    /// What the operands of products are rounded to: f32 or bf16
    #[arg(long, default_value = "bf16")]
    pub products: Products,
    /// Padded tokens of a batch
    #[arg(long, default_value_t = 2048)]
    pub batch_tokens: usize,
    /// Tokens of a sentence, on average
    #[arg(long, default_value_t = 14)]
    pub sentence_tokens: usize,
    #[arg(long, default_value_t = 0.1)]
    pub dropout: f32,
    /// cpu, cuda:0 or auto
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
    /// Updates of each stage
    #[arg(long, default_value_t = 10)]
    pub updates: usize,
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
    /// Parallel text, plain or gzip, a sentence a line: best what the model was trained on
    #[arg(long)]
    pub source: PathBuf,
    /// Its translation, line by line
    #[arg(long)]
    pub target: PathBuf,
    /// Candidates of each source token, the most probable ones
    #[arg(long, default_value_t = 100)]
    pub per_token: usize,
    /// Target tokens that every sentence gets, the most frequent ones
    #[arg(long, default_value_t = 200)]
    pub common: usize,
    /// Rounds of expectation maximisation
    #[arg(long, default_value_t = 5)]
    pub iterations: usize,
}

#[derive(Args)]
pub struct LmArgs {
    /// Folder of the bundle, an imputer's, that gets the language model
    #[arg(long)]
    pub model: PathBuf,
    /// Text of the target language, plain or gzip, a sentence a line; several make one text
    #[arg(long, required = true)]
    pub text: Vec<PathBuf>,
    /// How much its log-probabilities count beside the network's; a higher one is more fluent and less faithful
    #[arg(long, default_value_t = 0.6)]
    pub weight: f32,
    /// What each token is worth, in nats: it makes up for what the language model takes off a longer translation
    #[arg(long, default_value_t = 2.8)]
    pub bonus: f32,
    /// What a token may cost at most, in nats: the text does not have every name. `inf` for no limit
    #[arg(long, default_value_t = 1.0)]
    pub penalty: f32,
    /// Leave out trigrams that the text has no more often than this, for a smaller file
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
    /// What it should become, line by line
    #[arg(long)]
    pub reference: PathBuf,
    /// Numbers of decoder passes
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,10")]
    pub steps: Vec<u8>,
    /// Widths of the beam, for an autoregressive model, which has no steps
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    pub beam: Vec<usize>,
    /// Lengths tried for each sentence; what is usual with the model if not given
    #[arg(long)]
    pub length_beam: Option<usize>,
    /// Padded tokens of a batch
    #[arg(long, default_value_t = 2048)]
    pub batch_tokens: usize,
    /// q8 (eight bits, as the server computes) or f32
    #[arg(long, default_value = "q8")]
    pub dtype: Dtype,
    /// Choose among the whole vocabulary, whatever shortlist a bundle has
    #[arg(long)]
    pub no_shortlist: bool,
    /// Read an imputer's slots alone, whatever language model a bundle has
    #[arg(long)]
    pub no_lm: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Record the scores in the bundle's config.json, where /info reads them
    #[arg(long)]
    pub record: bool,
}

#[derive(Args)]
pub struct ReportArgs {
    /// Folder of a bundle, or NAME=FOLDER; once for each model, the first is what others are compared with
    #[arg(long = "model", value_name = "[NAME=]FOLDER", required = true)]
    pub models: Vec<String>,
    /// Text to translate, a sentence a line
    #[arg(long)]
    pub source: PathBuf,
    /// What it should become, line by line
    #[arg(long)]
    pub reference: PathBuf,
    /// Only so many sentences, from the head of the files
    #[arg(long)]
    pub sentences: Option<usize>,
    /// Numbers of decoder passes
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,10")]
    pub steps: Vec<u8>,
    /// Lengths tried for each sentence
    #[arg(long = "length-beam", value_delimiter = ',', default_value = "1,3,5")]
    pub length_beams: Vec<usize>,
    /// Widths of the beam, for an autoregressive model, which has no steps
    #[arg(long = "beam", value_delimiter = ',', default_value = "1,4")]
    pub beams: Vec<usize>,
    /// BLEU by source length too: the longest source of each bucket but the last, in words
    #[arg(long, value_delimiter = ',')]
    pub buckets: Vec<usize>,
    /// Bootstrap samples, for intervals and significance
    #[arg(long, default_value_t = 1000)]
    pub resamples: usize,
    /// Of the samples
    #[arg(long, default_value_t = 12345)]
    pub seed: u64,
    /// Sentences that are timed one by one
    #[arg(long, default_value_t = 200)]
    pub timed_sentences: usize,
    /// How often each of them is timed; the median counts
    #[arg(long, default_value_t = 3)]
    pub timing_rounds: usize,
    /// Padded tokens of a batch, where quality is measured
    #[arg(long, default_value_t = 2048)]
    pub batch_tokens: usize,
    /// q8 (eight bits, as the server computes) or f32
    #[arg(long, default_value = "q8")]
    pub dtype: Dtype,
    /// Choose among the whole vocabulary, whatever shortlist a bundle has
    #[arg(long)]
    pub no_shortlist: bool,
    /// Read an imputer's slots alone, whatever language model a bundle has
    #[arg(long)]
    pub no_lm: bool,
    /// Gets report.md, quality.svg and report.json
    #[arg(long)]
    pub output: PathBuf,
}
