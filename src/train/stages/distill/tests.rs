use super::*;

#[test]
fn shards_share_out_every_chunk_once() {
    for count in 1..6 {
        let shards: Vec<Shard> = (1..=count).map(|i| format!("{i}/{count}").parse().unwrap()).collect();
        for chunk in 0..20 {
            assert_eq!(shards.iter().filter(|shard| shard.takes(chunk)).count(), 1);
        }
    }
    assert_eq!("1/1".parse::<Shard>().unwrap(), Shard::WHOLE);
}

#[test]
fn an_invalid_shard_is_refused() {
    for text in ["", "1", "0/4", "5/4", "1/0", "a/b", "-1/3"] {
        let error = text.parse::<Shard>().unwrap_err().to_string();
        assert!(error.contains("i/n"), "{text}: {error}");
    }
}
