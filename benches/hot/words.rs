//! Text to ids and back, as for each request of the server.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::Criterion;
use tutti::text::{Candidate, Reader, Tokenizer};

const SENTENCES: [&str; 4] = [
    "Where is the train station?",
    // 12 tokens of the default model.
    "Could you please open the window before we go?",
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
        // All that a sentence costs beside the network: from its text to the text of its translation.
        group.bench_function(format!("path/{bytes} bytes"), |b| {
            b.iter(|| {
                let mut passage = reader.read(black_box(text));
                let requests = passage.requests().expect("any text has ids");
                let inner = |ids: &[u32]| ids[1..ids.len() - 1].to_vec();
                let candidate = |ids| Candidate { tokens: inner(ids), score: -0.1 };
                passage
                    .answer(requests.iter().map(|own| vec![candidate(&own.source)]).collect())
                    .expect("ids");
                passage.text()
            })
        });
    }
    group.finish();
}
