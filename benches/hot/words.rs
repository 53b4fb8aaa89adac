//! Text to ids and back, as for each request of the server.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::Criterion;
use tutti::text::{Reader, Tokenizer};

const SENTENCES: [&str; 3] = [
    "Where is the train station?",
    "If it rains tomorrow, we will stay at home and read.",
    "She has been working in this hospital for more than twenty years, and she says that she would do it all again.",
];

pub fn bench(criterion: &mut Criterion) {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/en-de/tokenizer.json");
    let tokenizer = Tokenizer::load(bundle).expect("the default model's tokenizer");
    let reader = Reader::new(Arc::new(tokenizer.clone()), "en", "de", 64);
    let mut group = criterion.benchmark_group("words");
    for text in SENTENCES {
        let bytes = text.len();
        let ids = tokenizer.encode(text).expect("any text has ids");
        group.bench_function(format!("encode/{bytes} bytes"), |b| {
            b.iter(|| tokenizer.encode(black_box(text)))
        });
        group.bench_function(format!("decode/{bytes} bytes"), |b| {
            b.iter(|| tokenizer.decode(black_box(&ids)))
        });
        group.bench_function(format!("passage/{bytes} bytes"), |b| b.iter(|| reader.read(black_box(text))));
    }
    group.finish();
}
