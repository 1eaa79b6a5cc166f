//! Several rpc-servers on one Redis, whatever their machines' clocks say.

use harness::{
    calls::{client, write_and_follow},
    program::Program,
    redis::RedisServer,
};

fn serve(clock: &str, store: &str) -> Program {
    let args = ["--rpc-addr", "127.0.0.1:0", "--store", store];
    Program::serve_with_clock(clock, env!("CARGO_BIN_EXE_rpc-server"), &args)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_clocks_five_seconds_apart_share_one_order_in_the_time_of_redis() {
    let redis = RedisServer::start();
    let replicas = [serve("+5s", &redis.url()), serve("-0s", &redis.url())];
    let order = write_and_follow(&replicas.each_ref().map(|replica| client(replica.rpc()))).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_micros();
    assert!((order.last().expect("some").0 as u128) < now + 1_000_000, "not the time of the replica that is ahead");
}
