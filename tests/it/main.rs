#[test]
#[ignore]
fn speed() {
    use tutti::{model::*, nn::Mode, train::{objective::*, masking::*, rng::Rng, corpus::Pair}};
    let shape: Shape = "enc=3,dec=3,d=256,ffn=1024,heads=4,vocab=8000".parse().unwrap();
    let dev = candle_core::Device::Cpu;
    let tensors = Spec::initial(&shape, 1, &dev).unwrap();
    let vars: std::collections::HashMap<String, candle_core::Var> = tensors.into_iter().map(|(k,v)| (k, candle_core::Var::from_tensor(&v).unwrap())).collect();
    let vb = candle_nn::VarBuilder::from_tensors(vars.iter().map(|(k,v)| (k.clone(), v.as_tensor().clone())).collect(), candle_core::DType::F32, &dev);
    let net = Network::load(&shape, &vb).unwrap();
    let mut rng = Rng::from_seed(1);
    let pairs: Vec<Pair> = (0..256).map(|_| Pair { source: (0..12).map(|_| 5 + rng.below(7000) as u32).collect(), target: (0..12).map(|_| 5 + rng.below(7000) as u32).collect() }).collect();
    let masked: Vec<Masked> = pairs.iter().map(|p| mask_target(&p.target, 4, &mut rng)).collect();
    let refs: Vec<&Pair> = pairs.iter().collect();
    for prec in [tutti::nn::gemm::Precision::F32, tutti::nn::gemm::Precision::Bf16] {
    for i in 0..4 {
        let t = std::time::Instant::now();
        let batch = Batch::new(&refs, &masked, 128, &tutti::text::Specials::default(), &dev).unwrap();
        let mode = Mode::training(0.1, i, prec);
        let l = Loss::cmlm(&net, &batch, 0.1, &mode).unwrap();
        let total = l.total(0.1).unwrap();
        let f = t.elapsed();
        let g = total.backward().unwrap();
        println!("{prec:?} loss {} fwd {:?} all {:?} tok/s {}", total.to_scalar::<f32>().unwrap(), f, t.elapsed(), batch.target_tokens as f64 / t.elapsed().as_secs_f64());
        for (k, v) in &vars { assert!(g.get(v.as_tensor()).is_some(), "{k}"); }
    }}
}
