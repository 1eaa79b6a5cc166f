//! The load plan of the reference's users (contract, section 5), and followers under it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    calls::{client, follow, pull_all, send},
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
    two_hundred_equal_sends_are_two_hundred_messages(&RedisServer::start().url()).await;
}

/// 20 writers and 4 followers on one room, 4,000 messages.
async fn followers_see_every_message_once_in_one_order(store: &str) {
    let server = serve(store);
    let stop = Arc::new(AtomicBool::new(false));
    let followers: Vec<_> = (0..4)
        .map(|_| {
            let (client, stop) = (client(server.rpc()), stop.clone());
            tokio::spawn(async move { follow(&client, "a:b", || stop.load(Ordering::Acquire)).await })
        })
        .collect();
    let writers: Vec<_> = (0..20)
        .map(|w| {
            let client = client(server.rpc());
            tokio::spawn(async move {
                for i in 0..200 {
                    assert_eq!(send(&client, "a:b", &format!("{w}/{i}"), "a").await.0, 0);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("every send is acknowledged");
    }
    stop.store(true, Ordering::Release);
    let mut orders = Vec::new();
    for follower in followers {
        orders.push(follower.await.expect("no panic"));
    }
    let mut texts: Vec<_> = orders[0].iter().map(|(_, text)| text).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!((orders[0].len(), texts.len()), (4_000, 4_000), "every message once");
    assert!(orders.iter().all(|order| *order == orders[0]), "one order for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_see_every_message_once_in_one_order_on_the_embedded_store() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    followers_see_every_message_once_in_one_order(&format!("embedded:{}", dir.path().display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_see_every_message_once_in_one_order_on_redis() {
    followers_see_every_message_once_in_one_order(&RedisServer::start().url()).await;
}
