use super::*;
use crate::decode::Decoding;
use crate::decode::Steps;

/// The events of a file, each checked against both of its checksums.
fn read(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let (mut rest, mut events) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let (data, end) = (&rest[12..12 + length], 16 + length);
        assert_eq!(rest[8..12], masked_crc(&rest[..8]).to_le_bytes());
        assert_eq!(rest[12 + length..end], masked_crc(data).to_le_bytes());
        events.push(Event::decode(data).unwrap());
        rest = &rest[end..];
    }
    events
}

#[test]
fn the_checksum_is_that_of_tensorflow() {
    // CRC-32C of "123456789" is e3069283, the common check value of the polynomial in RFC 3720.
    assert_eq!(masked_crc(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    // The first bytes of every event file that TensorFlow writes: a record of 24 bytes.
    assert_eq!(record(&[0; 24])[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
}

#[test]
fn a_run_is_shown_as_scalars_and_samples_by_update() {
    let dir = tempfile::tempdir().unwrap();
    let mut events = Events::open(dir.path()).unwrap();
    let train = event::Train {
        update: 20,
        epoch: 1,
        loss: f64::NAN,
        hidden_loss: None,
        length_loss: Some(2.5),
        gradient_norm: 1.0,
        learning_rate: 1e-4,
        tokens_per_second: 900.0,
        matrix_share: 0.5,
        padding_share: 0.05,
    };
    events.write_event(&event::Event::Train(train)).unwrap();
    events.write_event(&event::Event::Skip(event::Skip { update: 21, skipped: 2 })).unwrap();
    let text = |text: &str| text.to_owned();
    let sample = event::Sample {
        decoding: Decoding::Steps(Steps::new(4).unwrap()),
        source: text("a|b"),
        reference: text("two\nlines"),
        translation: text("c"),
    };
    let scores = vec![event::ValidationScore {
        decoding: Decoding::Steps(Steps::new(4).unwrap()),
        bleu: 12.25,
        chrf: 40.0,
    }];
    let valid = event::Valid {
        update: 22,
        seconds: 1.5,
        sentences: 1,
        scores,
        domains: Vec::new(),
        samples: vec![sample],
    };
    events.write_event(&event::Event::Valid(valid)).unwrap();

    let read = read(&events.path);
    assert_eq!(read[0].file_version.as_deref(), Some("brain.Event:2"));
    let tags = |event: &Event| -> Vec<(String, Option<f32>)> {
        let values = event.summary.iter().flat_map(|summary| &summary.value);
        values.map(|value| (value.tag.clone(), value.simple_value)).collect()
    };
    let scalars = tags(&read[1]);
    assert_eq!((read[1].step, scalars.len()), (20, 8));
    assert!(scalars.contains(&("train/length_loss".into(), Some(2.5))), "{scalars:?}");
    let loss = scalars.iter().find(|(tag, _)| tag == "train/loss").unwrap();
    assert!(loss.1.unwrap().is_nan());
    assert_eq!(tags(&read[2]), [("train/skipped".into(), Some(2.0))]);
    let valid = tags(&read[3]);
    assert_eq!(valid[..2], [("valid/bleu@4".into(), Some(12.25)), ("valid/chrf@4".into(), Some(40.0))]);
    let tensor = read[3].summary.as_ref().unwrap().value[2].tensor.clone().unwrap();
    let table = String::from_utf8(tensor.string_val[0].clone()).unwrap();
    assert!(table.ends_with("| 4 steps | a\\|b | c | two lines |\n"), "{table}");
}

#[test]
fn every_process_has_its_own_file_which_starts_with_its_update() {
    let dir = tempfile::tempdir().unwrap();
    let (first, mut second) = (Events::open(dir.path()).unwrap(), Events::open(dir.path()).unwrap());
    assert_ne!(first.path, second.path);
    let start = event::Start {
        update: 7,
        config_digest: String::new(),
        parameters: 1,
        pairs: 1,
        skipped: Default::default(),
        corpora: Vec::new(),
        device: "cpu".into(),
        matrix_rate: 1e9,
    };
    second.write_event(&event::Event::Start(start)).unwrap();
    let read = read(&second.path);
    assert_eq!((read[1].step, read[1].session_log.as_ref().unwrap().status), (8, SESSION_START));
}
