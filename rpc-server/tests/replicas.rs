//! Several rpc-servers on one Redis, whatever their machines' clocks say.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use harness::{
    calls::{client, follow, send},
    program::Program,
    redis::RedisServer,
};

const WRITERS: usize = 20;
const EACH: usize = 200;

fn serve(clock: &str, store: &str) -> Program {
    let args = ["--rpc-addr", "127.0.0.1:0", "--store", store];
    Program::serve_with_clock(clock, env!("CARGO_BIN_EXE_rpc-server"), &args)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_clocks_five_seconds_apart_share_one_order() {
    let redis = RedisServer::start();
    let replicas = [serve("+5s", &redis.url()), serve("-0s", &redis.url())];
    let stop = Arc::new(AtomicBool::new(false));
    let followers: Vec<_> = (0..4)
        .map(|i| {
            let (client, stop) = (client(replicas[i % 2].rpc()), stop.clone());
            tokio::spawn(async move { follow(&client, "a:b", || stop.load(Ordering::Acquire)).await })
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|w| {
            let client = client(replicas[w % 2].rpc());
            tokio::spawn(async move {
                for i in 0..EACH {
                    assert_eq!(send(&client, "a:b", &format!("{w}/{i}"), "a").await, (0, "success".into()));
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

    for order in &orders {
        assert_eq!(order.len(), WRITERS * EACH, "every message once");
        assert!(order.windows(2).all(|pair| pair[0].0 < pair[1].0), "send_time strictly increases");
        assert_eq!(*order, orders[0], "one order for all");
    }
    for w in 0..WRITERS {
        let own = orders[0].iter().filter_map(|(_, text)| text.strip_prefix(&format!("{w}/"))?.parse::<usize>().ok());
        assert!(own.eq(0..EACH), "each writer's messages in its own order");
    }
    // The times are Redis's, not those of the replica whose clock is five seconds ahead.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_micros();
    assert!((orders[0].last().expect("some").0 as u128) < now + 1_000_000);
}
