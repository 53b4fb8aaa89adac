//! The overhead of the engine: admission, planning, handing over between two threads, answers. The network is a fake.

use criterion::{BenchmarkId, Criterion, Throughput};
use tokio::runtime::Builder;
use tutti::decode::Steps;
use tutti::decode::testing::fake::FakeTranslator;
use tutti::engine::{self, Item, Options};
use tutti::metrics::Metrics;

use crate::source;

fn item(seed: usize) -> Item {
    Item {
        source: source(seed, 12),
        steps: Steps::ONE,
        steps_min: Steps::ONE,
        length_beam: 1,
        alternatives: 0,
        collapse: true,
        trace: false,
        deadline: None,
        watch: None,
        schedule: false,
    }
}

pub fn bench(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let engine = engine::start(FakeTranslator::new(), Options::default(), Metrics::new().engine("bench"))
        .expect("an engine by default");
    let handle = engine.handle();
    let mut group = criterion.benchmark_group("queue");
    for sentences in [1, 64, 1024] {
        let items: Vec<Item> = (0..sentences).map(item).collect();
        group.throughput(Throughput::Elements(sentences as u64));
        group.bench_with_input(BenchmarkId::new("there and back", sentences), &items, |b, items| {
            b.iter(|| {
                let pending = handle.submit(items.clone()).expect("there is room");
                runtime.block_on(async {
                    for pending in pending {
                        pending.await.expect("the fake answers");
                    }
                });
            });
        });
    }
    group.finish();
    engine.join().expect("nothing went wrong");
}
