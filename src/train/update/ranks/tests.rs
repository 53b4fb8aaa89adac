use std::sync::Mutex;

use super::*;

const CPUS: [DeviceChoice; 3] = [DeviceChoice::Cpu; 3];

fn failed() -> Error {
    Error::Config("rank 1 failed".into())
}

#[test]
fn a_single_rank_does_not_wait() {
    run_ranks(&CPUS[..1], |context| {
        assert!(context.is_first() && context.ranks() == 1 && (0..5).all(|index| context.takes(index)));
        assert_eq!(context.sum(&[1.5, 2.0])?, [1.5, 2.0]);
        context.broadcast(7).map(|number| assert_eq!(number, 7))
    })
    .unwrap();
}

#[test]
fn each_micro_batch_belongs_to_one_rank_and_all_ranks_have_equally_many() {
    let taken = Mutex::new(vec![0; 12]);
    run_ranks(&CPUS, |context| {
        let own: Vec<usize> = (0..12).filter(|&index| context.takes(index as u64)).collect();
        assert_eq!(own.len(), 4);
        own.into_iter().for_each(|index| taken.lock().unwrap()[index] += 1);
        Ok(())
    })
    .unwrap();
    assert_eq!(taken.into_inner().unwrap(), [1; 12]);
}

#[test]
fn sums_have_the_same_bits_on_every_rank_in_every_round() {
    let sums = Mutex::new(Vec::new());
    run_ranks(&CPUS, |context| {
        for round in 0..100 {
            let own = [0.1 * (context.rank() + 1) as f64, f64::from(round)];
            let [sum, rounds] = context.sum(&own)?[..] else { panic!("two values come back") };
            assert_eq!(rounds, 3.0 * f64::from(round));
            sums.lock().unwrap().push(sum.to_bits());
        }
        Ok(())
    })
    .unwrap();
    let in_order = (0.1 * 1.0 + 0.1 * 2.0) + 0.1 * 3.0_f64;
    assert!(sums.into_inner().unwrap().iter().all(|&sum| sum == in_order.to_bits()));
}

#[test]
fn all_ranks_get_the_number_of_the_first() {
    run_ranks(&CPUS, |context| {
        context.broadcast(10 + context.rank() as u32).map(|number| assert_eq!(number, 10))
    })
    .unwrap();
}

#[test]
fn gradients_are_summed_and_keep_their_shapes() {
    let device = candle_core::Device::Cpu;
    run_ranks(&CPUS, |context| {
        let own = context.rank() as f32;
        let gradients =
            vec![Tensor::new(&[[own, 1.0], [2.0, own]], &device)?, Tensor::new(&[own; 3], &device)?];
        let sums = context.reducer(&Backend::cpu())?.sum(gradients.clone())?;
        assert_eq!(sums[0].to_vec2::<f32>()?, [[3.0, 3.0], [6.0, 3.0]]);
        assert_eq!(sums[1].to_vec1::<f32>()?, [3.0; 3]);
        // The gradients of the rank itself have not changed.
        assert_eq!(gradients[1].to_vec1::<f32>()?, [own; 3]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_rank_that_fails_ends_the_others_and_its_error_is_returned() {
    let ended = Mutex::new(Vec::new());
    let result = run_ranks(&CPUS, |context| {
        let outcome = context
            .barrier()
            .and_then(|()| if context.rank() == 1 { Err(failed()) } else { context.barrier() });
        ended.lock().unwrap().push(context.rank());
        outcome
    });
    assert_eq!(result.unwrap_err().to_string(), failed().to_string());
    assert_eq!(ended.into_inner().unwrap().len(), 3);
}

#[test]
fn a_rank_that_panics_ends_the_others() {
    let result = run_ranks(&CPUS, |context| {
        assert_ne!(context.rank(), 2, "as a test");
        context.barrier()
    });
    assert!(result.unwrap_err().to_string().contains("panicked"));
}

#[test]
fn ranks_have_consecutive_gpus_or_the_cpu() {
    assert_eq!(devices(DeviceChoice::Cpu, 2).unwrap(), CPUS[..2]);
    if !cfg!(feature = "cuda") {
        assert_eq!(devices(DeviceChoice::Auto, 2).unwrap(), [DeviceChoice::Auto; 2]);
        assert!(devices(DeviceChoice::Cuda(1), 2).unwrap_err().to_string().contains("without CUDA"));
    }
}

/// Gradients pass through NCCL, with a single GPU.
#[cfg(feature = "nccl")]
#[test]
#[ignore = "needs a GPU"]
fn the_sum_over_one_rank_equals_its_gradients_bit_for_bit_on_a_gpu() {
    let backend = Backend::of_tensors(DeviceChoice::Cuda(0)).unwrap();
    let group = Some(Arc::new(Group::new(1)));
    let reducer = RankContext { rank: 0, device: DeviceChoice::Cuda(0), group }.reducer(&backend).unwrap();
    assert!(matches!(reducer.0, Transport::Nccl { .. }));
    let bits = |tensor: &Tensor| -> Vec<u32> {
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    for round in 1..4 {
        let wave =
            |count: usize| (0..count).map(|i| (i * round) as f32 * 0.37).map(f32::sin).collect::<Vec<_>>();
        let gradients = [[300, 70], [1, 5], [8000, 256]].map(|[rows, columns]| {
            Tensor::from_vec(wave(rows * columns), (rows, columns), backend.device()).unwrap()
        });
        let sums = reducer.sum(gradients.to_vec()).unwrap();
        for (sum, gradient) in sums.iter().zip(&gradients) {
            assert_eq!(sum.dims(), gradient.dims());
            assert_eq!(bits(sum), bits(gradient));
        }
    }
}
