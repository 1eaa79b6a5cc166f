//! `kill -9` of `im serve` under load.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use harness::{
    calls::{assert_stored_once, client, send},
    program::Program,
};
use tokio::{task::JoinSet, time::sleep};

fn serve(store: &str) -> Program {
    let args = ["serve", "--rpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--store", store];
    Program::serve(env!("CARGO_BIN_EXE_im"), &args)
}

/// Sends until told to stop or cut off; returns what was acknowledged.
async fn write(addr: SocketAddr, name: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let client = client(addr);
    let mut acknowledged = Vec::new();
    for i in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let text = format!("{name}/{i}");
        if send(&client, "a:b", &text, "a").await.0 == 0 {
            acknowledged.push(text);
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_under_sixteen_writers_lose_and_double_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = format!("embedded:{}", dir.path().display());
    let mut acknowledged = Vec::new();
    for round in 0..10 {
        let mut server = serve(&store);
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for w in 0..16 {
            writers.spawn(write(server.rpc(), format!("{round}/{w}"), stop.clone()));
        }
        sleep(Duration::from_millis(200)).await;
        server.kill();
        stop.store(true, Ordering::Release);
        acknowledged.extend(writers.join_all().await.into_iter().flatten());
    }
    assert!(acknowledged.len() > 500, "only {} were acknowledged", acknowledged.len());

    let server = serve(&store);
    assert_stored_once(&client(server.rpc()), "a:b", &acknowledged).await;
}
