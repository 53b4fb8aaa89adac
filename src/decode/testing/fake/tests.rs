use super::*;

#[test]
fn a_prediction_depends_on_source_position_and_revealed_neighbours() {
    let fake = FakeTranslator::new();
    let token = |source: &[u32], canvas: &[u32], place| fake.predict(source, canvas, place).token;
    let base = token(&[1, 9, 2], &[1, 4, 4, 4, 2], 2);
    assert_eq!(base, token(&[1, 9, 2], &[1, 4, 4, 4, 2], 2));
    assert_ne!(base, token(&[1, 8, 2], &[1, 4, 4, 4, 2], 2));
    assert_ne!(base, token(&[1, 9, 2], &[1, 4, 4, 4, 2], 3));
    assert_ne!(base, token(&[1, 9, 2], &[1, 4, 4, 7, 2], 2));
}

#[test]
fn a_closed_gate_lets_the_allowed_number_of_passes_through() {
    let fake = FakeTranslator::new();
    let (gate, counts) = (fake.gate(), fake.counts());
    gate.close();
    let worker = std::thread::spawn(move || (0..4).try_for_each(|_| fake.decode(&[]).map(drop)));
    gate.wait_until_held();
    assert_eq!(counts.passes(), 0);
    gate.step();
    assert_eq!(counts.passes(), 1);
    gate.allow(2);
    gate.wait_until_held();
    assert_eq!(counts.passes(), 3);
    gate.open();
    assert!(worker.join().unwrap().is_ok());
    assert_eq!(counts.passes(), 4);
}

#[test]
fn it_fails_at_the_given_pass() {
    let fake = FakeTranslator::new().failing_at(2, Fault::Error);
    assert!(fake.decode(&[]).is_ok());
    assert!(fake.decode(&[]).is_err());
    assert!(fake.decode(&[]).is_ok());
}
