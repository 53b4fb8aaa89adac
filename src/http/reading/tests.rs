use super::*;

const LARGE: usize = 300 << 10;

#[tokio::test]
async fn large_texts_wait_for_each_other_and_too_many_are_refused() {
    let reading = Reading::new(LARGE);
    let first = reading.acquire(LARGE, false).await.unwrap();
    let waits = tokio::spawn({
        let reading = reading.clone();
        async move { reading.acquire(LARGE, false).await.map(drop) }
    });
    while reading.waiting.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(reading.acquire(LARGE, false).await, Err(Error::QueueFull { .. })));
    // Smaller texts do not wait.
    for bytes in [10, 1000, LARGE_BYTES] {
        assert!(reading.acquire(bytes, false).await.is_ok());
    }
    drop(first);
    waits.await.unwrap().unwrap();
    assert_eq!(reading.waiting.load(Ordering::Relaxed), 0);
    assert_eq!(reading.large.available_permits(), MAX_LARGE_KIB);
    // One text of any size may be in progress alone.
    assert!(reading.acquire(usize::MAX / 2, false).await.is_ok());
}

#[tokio::test]
async fn dropping_a_permit_releases_its_bytes_and_cancels_its_work() {
    let reading = Reading::new(LARGE);
    let permit = reading.acquire(LARGE, false).await.unwrap();
    let cancelled = permit.cancelled();
    let (started, starts) = tokio::sync::oneshot::channel();
    let (ended, end) = tokio::sync::oneshot::channel();
    let work = tokio::spawn(async move {
        let seen = permit.cancelled();
        let work = move || {
            started.send(()).unwrap();
            while !seen.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            ended.send(()).unwrap();
        };
        permit.run(work).await
    });
    starts.await.unwrap();
    assert!(!cancelled.load(Ordering::Relaxed));
    work.abort();
    end.await.unwrap();
    assert_eq!(reading.large.available_permits(), MAX_LARGE_KIB);
}
