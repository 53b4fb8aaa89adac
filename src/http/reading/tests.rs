use super::*;

const LARGE: usize = 300 << 10;

#[tokio::test]
async fn large_texts_take_turns_and_too_many_that_wait_are_refused() {
    let reading = Reading::new(LARGE);
    let first = reading.enter(LARGE, false).await.unwrap();
    let waits = tokio::spawn({
        let reading = reading.clone();
        async move { reading.enter(LARGE, false).await.map(drop) }
    });
    while reading.waiting.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(reading.enter(LARGE, false).await, Err(Error::QueueFull { .. })));
    // Others go past them.
    for bytes in [10, 1000, LARGE_BYTES] {
        assert!(reading.enter(bytes, false).await.is_ok());
    }
    drop(first);
    waits.await.unwrap().unwrap();
    assert_eq!(reading.waiting.load(Ordering::Relaxed), 0);
    assert_eq!(reading.room.available_permits(), ROOM);
    // However large, one text alone has room.
    assert!(reading.enter(usize::MAX / 2, false).await.is_ok());
}

#[tokio::test]
async fn who_leaves_gives_its_room_back_and_stops_its_work() {
    let reading = Reading::new(LARGE);
    let place = reading.enter(LARGE, false).await.unwrap();
    let left = place.left();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (ended, ends) = tokio::sync::oneshot::channel();
    let work = tokio::spawn(async move {
        let seen = place.left();
        let work = move || {
            begun.send(()).unwrap();
            while !seen.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            ended.send(()).unwrap();
        };
        place.run(work).await
    });
    begins.await.unwrap();
    assert!(!left.load(Ordering::Relaxed));
    work.abort();
    ends.await.unwrap();
    assert_eq!(reading.room.available_permits(), ROOM);
}
