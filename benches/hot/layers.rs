//! The 8-bit matrix products, which take most of a pass: rows times a feed-forward matrix, and the best token of the
//! vocabulary. Throughput is in multiply-adds.

use criterion::{BenchmarkId, Criterion, Throughput};
use tutti::nn::int8::{Input, PackedLinear, Positive, Rows};

/// Numbers of both signs.
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn rows(count: usize, width: usize) -> Rows {
    let from = values(count * width);
    let mut rows = Rows::default();
    rows.quantize(&from, width, Input::Signed);
    rows
}

pub fn bench(criterion: &mut Criterion) {
    let (d, ffn, vocabulary) = (256, 1024, 8000);
    let packed = |outputs: usize| {
        PackedLinear::new(&values(outputs * d), &values(outputs), d, Input::Signed).expect("shapes that fit")
    };
    let (up, output) = (packed(ffn), packed(vocabulary));
    let weights = output.channelwise();
    let mut group = criterion.benchmark_group("layers");
    for count in [14, 112] {
        let rows = rows(count, d);
        let (mut positive, mut out) = (Positive::default(), Rows::default());
        group.throughput(Throughput::Elements((count * d * ffn) as u64));
        group.bench_function(BenchmarkId::new("linear, relu, quantised", count), |b| {
            b.iter(|| up.forward_relu(&rows, &mut positive, &mut out));
        });
        group.throughput(Throughput::Elements((count * d * vocabulary) as u64));
        group.bench_function(BenchmarkId::new("best token", count), |b| {
            b.iter(|| output.best_tokens(&rows, 5, 1))
        });
        // The size of a sentence's shortlist. Below, selecting it is measured separately.
        let channels: Vec<u32> = (5..vocabulary as u32).step_by(18).collect();
        let few = output.select(&weights, &channels);
        group.throughput(Throughput::Elements((count * d * channels.len()) as u64));
        group.bench_function(BenchmarkId::new("best of a shortlist", count), |b| {
            b.iter(|| few.best_tokens(&rows, 0, 1))
        });
    }
    group.throughput(Throughput::Elements(444));
    group.bench_function("select a shortlist", |b| {
        let channels: Vec<u32> = (5..vocabulary as u32).step_by(18).collect();
        b.iter(|| output.select(&weights, &channels))
    });
    group.finish();
}
