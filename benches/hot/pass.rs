//! One pass of the encoder and one of the decoder, random weights, at batch 1, 8 and 64.

use criterion::{BenchmarkId, Criterion, Throughput};
use tutti::decode::{Encoded, InferenceModel, LengthBeam, Row, Steps, Translator};
use tutti::model::{Backend, Dtype, LengthPrediction};

use crate::{shape, source};

pub fn bench(criterion: &mut Criterion) {
    let network =
        InferenceModel::random(&shape(), 1, &Backend::cpu().with_dtype(Dtype::Q8)).expect("random weights");
    let mut group = criterion.benchmark_group("pass");
    for tokens in [12, 25] {
        for batch in [1, 8, 64] {
            let sources: Vec<Vec<u32>> = (0..batch).map(|seed| source(seed, tokens)).collect();
            let sources: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
            let id = |pass: &str| BenchmarkId::new(pass, format!("{tokens} tokens x {batch}"));
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(id("encode"), |b| b.iter(|| network.encode(&sources)));
            // As long as the source: random weights predict no useful length.
            let mut lengths = vec![f32::NEG_INFINITY; tokens + 1];
            lengths[tokens] = 0.0;
            let lengths = LengthPrediction::Lengths(lengths);
            let beam = LengthBeam::new(&lengths, 1, Steps::ONE, &network.rules()).expect("one length");
            let encoded: Vec<Encoded<_>> = network.encode(&sources).expect("ids of the vocabulary");
            let rows: Vec<Row<_>> = encoded.iter().flat_map(|sentence| beam.rows(&sentence.memory)).collect();
            group.bench_function(id("decode"), |b| b.iter(|| network.decode(&rows)));
        }
    }
    group.finish();
}
