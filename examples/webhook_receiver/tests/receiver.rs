//! Tests the receiver as senders see it: repeats at the same time and later, failures, and clients that go
//! away.

#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use datapool_store::{DataPoolStore, Pool};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use webhook_receiver::{Work, routes};

struct Scene {
    pool: Pool,
    routes: Router,
    /// The number of times that the work has begun.
    begun: Arc<AtomicUsize>,
    /// The work waits for a permit.
    gate: Arc<Semaphore>,
}

/// Creates a receiver whose work fails for the body `fail`.
fn scene() -> Scene {
    let pool = DataPoolStore::in_memory().unwrap().get_or_create_pool("webhooks").unwrap();
    let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (counted, waited) = (Arc::clone(&begun), Arc::clone(&gate));
    let work: Work = Arc::new(move |body| {
        let (begun, gate) = (Arc::clone(&counted), Arc::clone(&waited));
        Box::pin(async move {
            let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
            gate.acquire().await.unwrap().forget();
            match body.as_str() {
                "fail" => Err("the work failed".to_owned()),
                "long" => Ok("x".repeat(100_000)),
                _ => Ok(format!("response {number}")),
            }
        })
    });
    Scene { routes: routes(pool.to_async(), work), pool, begun, gate }
}

impl Scene {
    async fn send(&self, key: &str, body: &'static str) -> Response {
        let request =
            Request::post("/webhooks").header("idempotency-key", key).body(Body::from(body)).unwrap();
        self.routes.clone().oneshot(request).await.unwrap()
    }

    /// Waits until the work has begun this many times.
    async fn wait_for_work(&self, times: usize) {
        while self.begun.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
    }
}

async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), 1_000_000).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_delivery_is_handled_once_and_repeats_are_told_so() {
    let scene = scene();
    scene.gate.add_permits(10);
    let first = scene.send("4711", "{}").await;
    assert_eq!(first.status(), StatusCode::OK);
    assert!(first.headers().get("idempotency-replayed").is_none());
    assert_eq!(text(first).await, "response 1");
    for _ in 0..3 {
        let repeat = scene.send("4711", "another body").await;
        assert_eq!(repeat.status(), StatusCode::OK);
        assert!(repeat.headers().contains_key("idempotency-replayed"));
        assert_eq!(text(repeat).await, "response 1");
    }
    assert_eq!(scene.send("4712", "{}").await.status(), StatusCode::OK);
    assert_eq!(scene.begun.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_response_that_is_too_long_to_keep_is_sent_once() {
    let scene = scene();
    scene.gate.add_permits(10);
    assert_eq!(text(scene.send("4711", "long").await).await.len(), 100_000);
    let repeat = scene.send("4711", "long").await;
    assert!(repeat.headers().contains_key("idempotency-replayed"));
    assert!(text(repeat).await.ends_with("as record 1\n"));
    assert_eq!(scene.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn of_a_hundred_requests_at_the_same_time_one_does_the_work() {
    let scene = Arc::new(scene());
    let send = |scene: Arc<Scene>| async move { scene.send("4711", "{}").await.status() };
    let first = tokio::spawn(send(Arc::clone(&scene)));
    scene.wait_for_work(1).await;
    let others: Vec<_> = (0..99).map(|_| tokio::spawn(send(Arc::clone(&scene)))).collect();
    for other in others {
        assert_eq!(other.await.unwrap(), StatusCode::CONFLICT);
    }
    let repeat = scene.send("4711", "{}").await;
    assert!(repeat.headers().contains_key("retry-after"));
    scene.gate.add_permits(1);
    assert_eq!(first.await.unwrap(), StatusCode::OK);
    assert_eq!(scene.begun.load(Ordering::SeqCst), 1);
    assert!(scene.pool.claims().unwrap().is_empty());
}

#[tokio::test]
async fn work_that_fails_leaves_the_key_for_a_repeat() {
    let scene = scene();
    scene.gate.add_permits(10);
    let failed = scene.send("4711", "fail").await;
    assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(text(failed).await, "the work failed\n");
    let repeat = scene.send("4711", "{}").await;
    assert_eq!(repeat.status(), StatusCode::OK);
    assert!(repeat.headers().get("idempotency-replayed").is_none());
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_key_for_a_repeat() {
    let scene = Arc::new(scene());
    let gone = Arc::clone(&scene);
    let request = tokio::spawn(async move { gone.send("4711", "{}").await.status() });
    scene.wait_for_work(1).await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    scene.gate.add_permits(10);
    // The claim is released shortly after the drop.
    let mut status = StatusCode::CONFLICT;
    while status == StatusCode::CONFLICT {
        status = scene.send("4711", "{}").await.status();
    }
    assert_eq!(status, StatusCode::OK);
    assert_eq!(scene.begun.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn bad_keys_are_refused_and_odd_ones_are_not() {
    let scene = scene();
    let request = Request::post("/webhooks").body(Body::empty()).unwrap();
    let missing = scene.routes.clone().oneshot(request).await.unwrap();
    assert_eq!(missing.status(), StatusCode::BAD_REQUEST);
    assert!(text(missing).await.contains("Idempotency-Key"));
    assert_eq!(scene.send("", "{}").await.status(), StatusCode::BAD_REQUEST);
    let long = "k".repeat(5_000);
    assert_eq!(scene.send(&long, "{}").await.status(), StatusCode::BAD_REQUEST);
    scene.gate.add_permits(1);
    assert_eq!(scene.send("a key with blanks, and commas", "{}").await.status(), StatusCode::OK);
    assert_eq!(scene.begun.load(Ordering::SeqCst), 1);
}
