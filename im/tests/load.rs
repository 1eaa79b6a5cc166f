//! The load plan of the reference's users (contract, section 5), and followers under it.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use harness::{
    calls::{client, pull_all, write_and_follow},
    http::Connection,
    program::Program,
    redis::RedisServer,
};

fn serve(store: &str) -> Program {
    let args = ["serve", "--rpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--store", store];
    Program::serve(env!("CARGO_BIN_EXE_im"), &args)
}

/// 20 threads x 10 equal sends, spread over a second of the ten that the plan allows.
fn stress(addr: SocketAddr) -> usize {
    const BODY: &[u8] =
        b"{\r\n  \"chat\": \"stress1:stress2\",\r\n  \"text\": \"the same\",\r\n  \"sender\": \"stress1\"\r\n}";
    let start = Instant::now();
    let threads: Vec<_> = (0..20)
        .map(|n| {
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(50 * n));
                let mut connection = Connection::open(addr);
                let head = "POST /api/send HTTP/1.1\r\nContent-Type: application/json";
                (0..10).filter(|_| connection.request(head, BODY).status == 200).count()
            })
        })
        .collect();
    let acknowledged = threads.into_iter().map(|t| t.join().expect("no panic")).sum();
    assert!(start.elapsed() < Duration::from_secs(10));
    acknowledged
}

async fn two_hundred_equal_sends_are_two_hundred_messages(store: &str) {
    let server = serve(store);
    let addr = server.http();
    assert_eq!(tokio::task::spawn_blocking(move || stress(addr)).await.expect("no panic"), 200);
    let stored = pull_all(&client(server.rpc()), "stress1:stress2").await;
    assert_eq!(stored.iter().filter(|(_, text)| text == "the same").count(), 200);
}

#[tokio::test]
async fn two_hundred_equal_sends_are_two_hundred_messages_on_the_embedded_store() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    two_hundred_equal_sends_are_two_hundred_messages(&format!("embedded:{}", dir.path().display())).await;
}

#[tokio::test]
async fn two_hundred_equal_sends_are_two_hundred_messages_on_redis() {
    let redis = RedisServer::start();
    two_hundred_equal_sends_are_two_hundred_messages(&redis.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_see_every_message_once_in_one_order_on_the_embedded_store() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = serve(&format!("embedded:{}", dir.path().display()));
    write_and_follow(&[client(server.rpc())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_see_every_message_once_in_one_order_on_redis() {
    let redis = RedisServer::start();
    let server = serve(&redis.url());
    write_and_follow(&[client(server.rpc())]).await;
}
