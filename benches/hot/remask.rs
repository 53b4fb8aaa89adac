//! Mask-predict between passes: applying predictions, choosing the positions to mask again, finishing.

use criterion::{BatchSize, BenchmarkId, Criterion};
use tutti::decode::{Canvas, Prediction, Steps};
use tutti::text::Specials;

/// All passes of one canvas.
fn decode(mut canvas: Canvas, answers: &[Prediction]) -> Canvas {
    while !canvas.finished() {
        let answers: &[Prediction] = &answers[..canvas.wanted().len()];
        canvas.apply(answers).expect("as many answers as places, no specials");
    }
    canvas
}

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("remask");
    for tokens in [12, 25, 60] {
        let answer =
            |place: usize| Prediction { token: 5 + place as u32, log_prob: -((place * 7 % 13) as f32) };
        let answers: Vec<Prediction> = (0..tokens).map(answer).collect();
        for steps in [1, 4, 10] {
            let steps = Steps::new(steps).expect("at least one");
            let id = BenchmarkId::new(format!("{tokens} tokens"), format!("{steps} steps"));
            group.bench_function(id, |b| {
                let canvas = || Canvas::new(tokens, steps, Specials::default());
                b.iter_batched(canvas, |canvas| decode(canvas, &answers).finish(true), BatchSize::SmallInput);
            });
        }
    }
    group.finish();
}
